"""Chooses the place at which the same change is offered next, if one is likely enough.

The weights are a logistic curve over what is known of a place, fitted on the differences between two releases of ten
Python packages; on eleven others it was measured (docs/completion.md). The model is not asked: a place is found and
judged in about a millisecond. Pure, but for the history of each editor.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from sordino_client.completion.edits.change import LineChange, change_between
from sordino_client.completion.edits.place import EditPlace, places
from sordino_client.completion.showing.worth import Show

# Larger files are not looked at: nobody writes them by hand.
MAX_TEXT: Final = 200_000
MAX_EDITORS: Final = 64
MAX_CHANGES: Final = 16
MAX_MADE: Final = 3
# Log-odds of a place with no fact in its favour, and what each fact adds.
ALONE: Final = -1.68
PER_LEFT, PER_RIGHT, PER_SIDE = 0.05, 0.31, 0.72
ONE_WORD, PER_LENGTH, PER_DISTANCE, BELOW, PER_PLACES, PER_MADE = -0.61, 0.41, -0.12, 0.63, -0.42, 0.42
# The log-odds from which on a place is shown.
LEAST: Mapping[Show, float] = {"quiet": 1.25, "balanced": 0.5, "eager": -0.5, "all": -1.0}


class EditHistory:
    """How often each editor made a change before. Held in memory, a few changes an editor; never written anywhere.
    Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[str, tuple[bytes, LineChange | None, Counter[tuple[str, str]]]] = (
            OrderedDict()
        )

    def made(self, editor: str, before: str, change: LineChange | None) -> int:
        """How often `editor` made this change before it began the present one, whose beginning is `before`."""
        began = blake2b(before.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            last, latest, counted = self._made.pop(editor, (began, None, Counter()))
            if last != began and latest is not None:
                counted[latest.old, latest.new] += 1
                while len(counted) > MAX_CHANGES:
                    del counted[next(iter(counted))]
            self._made[editor] = (began, change, counted)
            if len(self._made) > MAX_EDITORS:
                self._made.popitem(last=False)
            return 0 if change is None else counted[change.old, change.new]


def next_place(before: str, after: str, *, editor: str, history: EditHistory, show: Show) -> EditPlace | None:
    """The likeliest place in `after` for the change that made it of `before`; None if none is likely enough.

    The same `before` as last time means that an edit goes on; another one means that the last edit is done.
    """
    if max(len(before), len(after)) > MAX_TEXT:
        return None
    change = change_between(before, after)
    made = history.made(editor, before, change)
    if change is None:
        return None
    found = list(places(after, change))
    odds, best = max(
        ((log_odds(after, change, place, count=len(found), made=made), place) for place in found),
        key=lambda one: one[0],
        default=(-math.inf, None),
    )
    return best if odds > LEAST[show] else None


def log_odds(after: str, change: LineChange, place: EditPlace, *, count: int, made: int) -> float:
    """How likely it is that the change belongs at a place, one of `count`; `made`: how often it was made before."""
    low, high = sorted((change.start, place.start))
    distance = after.count("\n", low, high)
    return (
        ALONE
        + PER_LEFT * place.left
        + PER_RIGHT * place.right
        + PER_SIDE * (min(place.left, 1) + min(place.right, 1))
        + ONE_WORD * change.old.isidentifier()
        + PER_LENGTH * math.log1p(len(change.old.strip()))
        + PER_DISTANCE * math.log1p(distance)
        + BELOW * (place.start > change.start)
        + PER_PLACES * math.log1p(count)
        + PER_MADE * min(made, MAX_MADE)
    )
