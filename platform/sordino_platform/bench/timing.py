"""Rows of figures: what was measured, how often, and how far the repeats lay apart."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, Any]
Labels = dict[str, Any]


Cells = Mapping[str, Callable[[], object]]


def interleaved(cells: Cells, *, repeats: int, before: Cells | None = None) -> dict[str, list[float]]:
    """Seconds of each cell, all of them in turn and that `repeats` times, so that a slow minute hits every peer.

    What `before` has for a cell is run first and not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cells}
    for _ in range(repeats):
        for name, cell in cells.items():
            if before is not None and name in before:
                before[name]()
            started = time.perf_counter()
            cell()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def row(by: str, what: str, seconds: list[float], *, per: float = 1.0, **labels: Any) -> Row:
    """`per` divides every repeat: the number of masks in it, say."""
    each = [value / per for value in seconds]
    return {
        "by": by,
        "what": what,
        **labels,
        "median_ms": round(1000 * statistics.median(each), 4),
        "lowest_ms": round(1000 * min(each), 4),
        "highest_ms": round(1000 * max(each), 4),
        "repeats": len(each),
    }


def find(rows: list[Row], **labels: object) -> Row:
    """The one row with these labels."""
    (found,) = (row for row in rows if all(row.get(name) == value for name, value in labels.items()))
    return found
