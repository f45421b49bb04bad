"""Phrases as keys, and keys as cells of the two rows.

A key is 64 bits: a chain over the context's tokens, then the last token mixed in. So the keys of one context with every
token of a vocabulary cost one operation each, and a reader can look up all of them. The mixing is SplitMix64's (Steele,
Lea and Flood 2014): it has good statistics but no secret key, so anybody can find two phrases that share a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from sordino_privacy.counts.plan import CountPlan

Keys = npt.NDArray[np.uint64]
Cells = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.unsignedinteger]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Different constants, so that a key's cells in both rows and its turn in the choice are independent of one another.
_ROW: Final = (np.uint64(0x2545F4914F6CDD1D), np.uint64(0xD6E8FEB86659FD93))
_TURN: Final = np.uint64(0xA0761D6478BD642F)


def mixed(values: Keys) -> Keys:
    """SplitMix64's finaliser, element by element."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * _FIRST
        values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=4)
def table(vocabulary: int) -> Keys:
    """The constant of each token, uint64, shape `(vocabulary,)`."""
    with np.errstate(over="ignore"):
        found = mixed(np.arange(1, vocabulary + 1, dtype=np.uint64) * _GOLDEN)
    found.flags.writeable = False
    return found


def contexts(tokens: Tokens, plan: CountPlan, *, vocabulary: int) -> Keys:
    """The keys of the contexts that end just before each token, and after the last one: `(lengths, len(tokens) + 1)`.

    Row r holds contexts of `plan.shortest - 1 + r` tokens; where fewer tokens stand before a place, its key is
    meaningless, and the caller must not use it.
    """
    constants = table(vocabulary)[tokens]
    size = len(tokens)
    with np.errstate(over="ignore"):
        key = np.full(size + 1, mixed(np.array([plan.salt], np.uint64) + _GOLDEN)[0], np.uint64)
        found = []
        for back in range(1, plan.longest):
            before = np.zeros(size + 1, np.uint64)
            before[back:] = constants[: max(0, size + 1 - back)]
            key = mixed(key + before) * _GOLDEN
            if back >= plan.shortest - 1:
                found.append(key)
    return np.stack(found)


def keys(context: Keys, tokens: Keys) -> Keys:
    """Keys of phrases, from the keys of contexts and the constants of last tokens, broadcast against each other."""
    with np.errstate(over="ignore"):
        return mixed(context + tokens)


def rows(phrases: Keys, plan: CountPlan) -> tuple[Cells, Cells]:
    """The cell of each phrase in the first row and in the second row, as places in the vector."""
    half = plan.cells // 2
    shift = np.uint64(64 - (plan.bits - 1))
    with np.errstate(over="ignore"):
        first, second = (((phrases ^ constant) * _GOLDEN >> shift).astype(np.int64) for constant in _ROW)
    return first, second + half


def turns(phrases: Keys) -> npt.NDArray[np.float64]:
    """A number in (0, 1) per phrase, the same at every member. Where not all can be counted, the lowest come first."""
    return ((mixed(phrases ^ _TURN) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """Phrases of one window, as parallel arrays: the place of the last token, the length in tokens, the key, and the
    loss of the last token, in nats.
    """

    places: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    keys: Keys
    nats: npt.NDArray[np.floating]

    @classmethod
    def of(
        cls,
        tokens: Tokens,
        nats: npt.NDArray[np.floating],
        plan: CountPlan,
        *,
        vocabulary: int,
        end: int,
    ) -> Phrases:
        """Every phrase of a window that the plan allows. `nats`: the loss of each token under the public base model.

        No phrase crosses the end of a document.
        """
        size = len(tokens)
        before = contexts(tokens, plan, vocabulary=vocabulary)[:, :size]
        places = np.arange(size)
        ends = np.where(tokens == end, places, -1)
        # How many tokens since the last end of a document, counting this one.
        room = places - np.maximum.accumulate(ends) if size else places
        lengths = np.arange(plan.shortest, plan.longest + 1)
        allowed = (room[None, :] >= lengths[:, None]) & (nats >= plan.surprise)[None, :]
        row, place = np.nonzero(allowed)
        last = table(vocabulary)[tokens[place]]
        return cls(places=place, lengths=lengths[row], keys=keys(before[row, place], last), nats=nats[place])
