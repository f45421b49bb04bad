"""The pictures: how the federations' bits per byte fall, and what each member gains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = ("#1f6f5c", "#6fb29f", "#b3541e", "#4c5f8a", "#8a4c7d")


def draw(report: dict[str, Any], target: Path) -> None:
    """Writes an SVG or PNG, by the name's ending."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    contenders = report["contenders"]

    def mean(name: str) -> float:
        return float(contenders[name]["model"]["bits_per_byte"]["mean"])

    for colour, (name, curve) in zip(COLOURS, report["curves"].items(), strict=False):
        rounds, bits = zip((0, mean("base")), *curve, strict=True)
        left.plot(rounds, bits, marker=".", color=colour, label=_words(name))
    left.axhline(mean("central"), color="black", linestyle="--", linewidth=1, label="central, not private")
    left.set(xlabel="round", ylabel="bits per byte, mean of members, model alone")
    left.grid(alpha=0.3)
    left.legend(fontsize=7)
    saved = report["worth"]["eps8"]["bits_per_byte_saved"]
    names = list(saved)
    right.barh(names, [saved[name] for name in names], color=COLOURS[0])
    right.locator_params(axis="x", nbins=5)
    right.axvline(0, color="black", linewidth=1)
    right.set_xlabel(
        "bits per byte that the federation (epsilon 8) saves,\nown adapter and memory on top of both"
    )
    right.invert_yaxis()
    figure.savefig(target, dpi=100)


def _words(name: str) -> str:
    first, _, repeat = name.partition("_again")
    again = f", run {int(repeat) + 1}" if repeat else ""
    return first.replace("_eps", ", epsilon ").replace("_", " ") + again
