"""Draws the pictures: bits per byte of newcomers by round, and the gains, on an axis up to the gain without privacy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sordino_client.laboratory.federation_benchmark.curves import COLOURS, draw_rounds

BARS = (
    ("newcomers, first files", "worth_newcomers_8_files"),
    ("the same, adapters only", "worth_newcomers_8_files_adapters"),
    ("the same, epsilon 2", "worth_newcomers_eps2"),
    ("newcomers, all files", "worth_newcomers_all_files"),
    ("members, all files", "worth_members"),
)


def draw_field(report: Mapping[str, Any], target: Path) -> None:
    """Writes an SVG or PNG, depending on the file's suffix. Figures that the report does not have yet are left out."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    central = report["tables"]["newcomers"].get("nothing", {}).get("central", {}).get("bits_per_byte")
    draw_rounds(left, report["curves"], central=central, measured="bits per byte of newcomers, model alone")
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
