"""Rows of figures: what was measured, how often, and how much the repeats differed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Row = dict[str, Any]
Labels = dict[str, Any]


class Took(NamedTuple):
    """Seconds of wall-clock time, and seconds of processor time of this thread. The second does not count other
    processes."""

    wall: float
    thread: float


Cells = Mapping[str, Callable[[], object]]


def interleaved(cells: Cells, *, repeats: int, before: Cells | None = None) -> dict[str, list[Took]]:
    """Times every cell once, then all again, `repeats` times in all, so that a slow minute affects all peers alike.

    A cell's function in `before` runs first and is not timed.
    """
    taken: dict[str, list[Took]] = {name: [] for name in cells}
    for _ in range(repeats):
        for name, cell in cells.items():
            if before is not None and name in before:
                before[name]()
            started = Took(time.perf_counter(), time.thread_time())
            cell()
            ended = Took(time.perf_counter(), time.thread_time())
            taken[name].append(Took(ended.wall - started.wall, ended.thread - started.thread))
    return taken


def row(by: str, what: str, taken: list[Took], *, per: float = 1.0, **labels: Any) -> Row:
    """`per` divides every repeat, for example by its number of masks."""
    each = [took.wall / per for took in taken]
    return {
        "by": by,
        "what": what,
        **labels,
        "median_ms": round(1000 * statistics.median(each), 4),
        "lowest_ms": round(1000 * min(each), 4),
        "highest_ms": round(1000 * max(each), 4),
        "thread_median_ms": round(1000 * statistics.median(took.thread / per for took in taken), 4),
        "repeats": len(each),
    }


def row_with(rows: list[Row], **labels: object) -> Row:
    """The one row with these labels."""
    (found,) = (row for row in rows if all(row.get(name) == value for name, value in labels.items()))
    return found
