"""Finds the tokens that keep a text valid UTF-8: a small automaton over bytes, run over every token once.

A byte-level vocabulary has tokens that are parts of a character. A model that is unsure strings such parts together
into bytes that are no text, and an editor shows U+FFFD. So each step may choose only tokens that continue the written
text as UTF-8 (Unicode 16, table 3-7). CR is no byte of a text inside (see place.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

START: Final = 0
BAD: Final = -1
# State: what bytes may come, and where they lead. 1, 2, 3: so many continuation bytes are missing; 4 to 7 are the
# second bytes that are not free: after E0 (overlong), ED (surrogates), F0 (overlong), F4 (beyond U+10FFFF).
_CONTINUATION = range(0x80, 0xC0)
_STEPS: Final[tuple[tuple[tuple[range, int], ...], ...]] = (
    (
        (range(0x0D), START),
        (range(0x0E, 0x80), START),
        (range(0xC2, 0xE0), 1),
        (range(0xE0, 0xE1), 4),
        (range(0xE1, 0xED), 2),
        (range(0xED, 0xEE), 5),
        (range(0xEE, 0xF0), 2),
        (range(0xF0, 0xF1), 6),
        (range(0xF1, 0xF4), 3),
        (range(0xF4, 0xF5), 7),
    ),
    ((_CONTINUATION, START),),
    ((_CONTINUATION, 1),),
    ((_CONTINUATION, 2),),
    ((range(0xA0, 0xC0), 1),),
    ((range(0x80, 0xA0), 1),),
    ((range(0x90, 0xC0), 2),),
    ((range(0x80, 0x90), 2),),
)


def _table() -> list[list[int]]:
    table = [[BAD] * 256 for _ in _STEPS]
    for state, steps in enumerate(_STEPS):
        for values, target in steps:
            for value in values:
                table[state][value] = target
    return table


TABLE: Final = _table()


def after(state: int, data: bytes) -> int:
    """The state behind `data`; BAD where it cannot follow."""
    for value in data:
        if state == BAD:
            return BAD
        state = TABLE[state][value]
    return state


class Continuations:
    """For every state, the tokens that may follow. `end` is the token that ends a document: between characters only.

    `allowed[state]` is True for each such token, `(states, vocabulary)`; `after[state]` is where it leads; `barred`
    are the numbers of those that may not follow a whole character.
    """

    def __init__(self, pieces: Sequence[bytes], *, end: int) -> None:
        states = range(len(_STEPS))
        self.after: npt.NDArray[np.int8] = np.full((len(_STEPS), len(pieces)), BAD, np.int8)
        for number, piece in enumerate(pieces):
            if not piece:
                continue
            if piece.isascii():  # nearly all of them
                self.after[START, number] = BAD if b"\r" in piece else START
            else:
                self.after[:, number] = [after(state, piece) for state in states]
        self.allowed: npt.NDArray[np.bool_] = self.after != BAD
        self.allowed[START, end] = True
        self.barred: npt.NDArray[np.int64] = np.flatnonzero(~self.allowed[START])
