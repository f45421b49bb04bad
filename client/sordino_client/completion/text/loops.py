"""Finds a model that repeats itself, within a line and over lines, so that it can be stopped and its text cut. Pure.

Repetition on purpose is left alone: dividers (`-----`), and runs of one digit or letter, which are numbers. A list of
equal elements (`0, 0, 0, 0`) is cut to its first: how many there should be is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

WORD: Final = re.compile(r"\w")
DIVIDER: Final = re.compile(r"[-=*#_~/.+ \t]*")
MAX_UNIT: Final = 120
MAX_UNIT_LINES: Final = 6
# A unit this short must repeat more often before it counts.
SHORT: Final = 8
SHORTEST: Final = 8
TIMES: Final = 3
TIMES_SHORT: Final = 4
TIMES_BARE: Final = 12
# Characters that a cut loop may leave at the end; they are removed too.
DANGLING: Final = " \t+-*/%&|^=<>,.?:!~@$([{"


def in_line(line: str) -> int | None:
    """The place where a line that ends in a loop is cut: behind the first turn. None if it does not end in a loop.

    >>> line = " b + b + b + b + b"
    >>> line[: in_line(line)]
    ' b'
    """
    if len(line) < SHORTEST:
        return None
    last, size = line[-1], len(line)
    at, first = size - 1, size - 1 - min(MAX_UNIT, size // TIMES)
    # Only where the last character stood before may a turn have ended.
    while (at := line.rfind(last, first, at)) >= 0:
        unit = size - 1 - at
        start = size - 1
        while start >= unit and line[start] == line[start - unit]:
            start -= 1
        run = size - 1 - start
        piece = line[-unit:]
        if DIVIDER.fullmatch(piece) or run + unit < unit * _times(piece):
            continue
        kept = line[: size - run].rstrip(DANGLING)
        return len(kept)
    return None


def repeated_lines(lines: Sequence[str]) -> tuple[int, bool]:
    """How many lines at the end repeat the ones before them, and whether they are a loop (three turns).

    Lines that repeat may still become a loop, so they are not certain to stay.
    """
    most, loop = 0, False
    for unit in range(1, min(MAX_UNIT_LINES, len(lines) - 1) + 1):
        run = 0
        while run + unit < len(lines) and lines[-1 - run] == lines[-1 - run - unit]:
            run += 1
        if run >= (TIMES - 1) * unit and any(WORD.search(line) for line in lines[-unit:]):
            most, loop = max(most, run), True
        most = max(most, run)
    return most, loop


def _times(piece: str) -> int:
    if re.fullmatch(r"\w+|\W+", piece):
        return TIMES_BARE
    return TIMES if len(piece) >= SHORT else TIMES_SHORT
