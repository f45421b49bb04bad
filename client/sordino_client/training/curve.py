"""The run's curve: one JSON line per entry, and a picture of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def append(path: Path, entry: dict[str, float]) -> None:
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(entry) + "\n")


def read(path: Path) -> list[dict[str, float]]:
    """The entries, oldest first; none when there is no file. A line that a crash cut short is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [dict(json.loads(line)) for line in lines if line.endswith("}\n")]


def truncate(path: Path, steps: int) -> None:
    """Drops what was logged after the checkpoint that a run resumes from, so that no step appears twice."""
    kept = [entry for entry in read(path) if entry["steps"] <= steps]
    if path.is_file():
        path.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")


def draw(folder: Path, *, fills: bool = True) -> None:
    """Draws `loss.png` from `log.jsonl`. `fills`: half of the training windows fill in the middle."""
    entries = read(folder / "log.jsonl")
    if not entries:
        return
    picture(entries, fills=fills).savefig(folder / "loss.png.part", format="png", dpi=110)
    (folder / "loss.png.part").replace(folder / "loss.png")


def picture(entries: list[dict[str, float]], *, fills: bool = True) -> Figure:
    """Training and validation loss in nats per token over tokens seen, from the measurement before the first step on
    where there is one: a logarithmic axis alone has no place for it."""
    from matplotlib.figure import Figure  # costs a second: only when there is something to draw

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    # The entry from before the first step has no training loss: it belongs to the validation curve only.
    trained = [(e["tokens"] / 1e6, e["loss"]) for e in entries if e["tokens"] > 0]
    if trained:
        axes.plot(
            *zip(*trained, strict=True),
            linewidth=0.8,
            label=f"training{' (half fill-in-the-middle)' if fills else ''}",
        )
    measured = [(e["tokens"] / 1e6, e["validation"]) for e in entries if "validation" in e]
    if measured:
        axes.plot(*zip(*measured, strict=True), marker="o", markersize=3, label="validation (plain)")
    axes.set(xlabel="million tokens", ylabel="nats per token")
    if len(trained) == len(entries):
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min((million for million, _ in trained), default=1.0))
        axes.set_xlim(left=0)
    last = entries[-1]
    axes.set_title(f"{last['tokens'] / 1e6:.1f}M tokens, {last['cpu_seconds'] / 3600:.1f} CPU-hours")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
