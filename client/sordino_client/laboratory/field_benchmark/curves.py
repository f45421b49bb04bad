"""The pictures: how bits per byte of newcomers fall, and what is gained, on an axis up to the gain without privacy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BARS = (
    ("newcomers, first files", "worth_newcomers_8_files"),
    ("the same, adapters only", "worth_newcomers_8_files_adapters"),
    ("the same, epsilon 2", "worth_newcomers_eps2"),
    ("newcomers, all files", "worth_newcomers_all_files"),
    ("members, all files", "worth_members"),
)
COLOURS = ("#1f6f5c", "#6fb29f", "#b3541e")


def draw_field(report: Mapping[str, Any], target: Path) -> None:
    """Writes an SVG or PNG, by the name's ending. What the report does not know yet is not drawn."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (name, curve) in zip(COLOURS, report["curves"].items(), strict=False):
        rounds, bits = zip(*curve, strict=True)
        label = name.replace("_eps", ", epsilon ").replace("_", " ")
        left.plot(rounds, bits, marker=".", color=colour, label=label)
    central = report["tables"]["newcomers"].get("nothing", {}).get("central")
    if central is not None:
        left.axhline(
            central["bits_per_byte"], color="black", linestyle="--", linewidth=1, label="central, not private"
        )
    left.set(xlabel="round", ylabel="bits per byte of newcomers, model alone")
    left.grid(alpha=0.3)
    if report["curves"]:
        left.legend(fontsize=7)
    bars = [(name, report[key], report[f"{key}_ci"]) for name, key in BARS if report[key] is not None]
    for place, (_, value, (low, high)) in enumerate(bars):
        right.barh(place, value, xerr=[[value - low], [high - value]], color=COLOURS[0], capsize=3)
    right.axvline(0, color="black", linewidth=1)
    ceiling = report["ceiling_newcomers_8_files"]
    if ceiling is not None:
        right.axvline(ceiling, color="black", linestyle="--", linewidth=1)
        said = "text of all members\nin a newcomer's memory"
        right.text(ceiling, len(bars) - 0.4, said, ha="right", fontsize=7)
    right.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    right.set_ylim(-0.6, max(1, len(bars)))
    right.set_xlabel("bits per byte that the federation saves, own adapter and memory on both sides")
    figure.savefig(target, dpi=100)
