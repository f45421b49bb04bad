"""Draws the pictures: the federations' bits per byte by round, and the gain of each member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f6f5c", "#6fb29f", "#b3541e", "#4c5f8a", "#8a4c7d")


def draw(report: dict[str, Any], target: Path) -> None:
    """Writes an SVG or PNG, depending on the file's suffix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    contenders = report["contenders"]

    def mean(name: str) -> float:
        return float(contenders[name]["model"]["bits_per_byte"]["mean"])

    curves = {name: [(0, mean("base")), *curve] for name, curve in report["curves"].items()}
    draw_rounds(left, curves, central=mean("central"), measured="bits per byte, mean of members, model alone")
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


def draw_rounds(
    axes: Axes, curves: Mapping[str, Sequence[tuple[int, float]]], *, central: float | None, measured: str
) -> None:
    """Draws the contenders round by round, and training without privacy as a line if it was measured.

    `curves` are (round, value) by contender; `measured` names the values.
    """
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        rounds, bits = zip(*curve, strict=True)
        axes.plot(rounds, bits, marker=".", color=colour, label=_words(name))
    if central is not None:
        axes.axhline(central, color="black", linestyle="--", linewidth=1, label="central, not private")
    axes.set(xlabel="round", ylabel=measured)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(fontsize=7)


def _words(name: str) -> str:
    first, _, repeat = name.partition("_again")
    again = f", run {int(repeat) + 1}" if repeat else ""
    return first.replace("_eps", ", epsilon ").replace("_", " ") + again
