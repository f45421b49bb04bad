"""A suffix order over tokens, cut at a fixed depth: finds where the last tokens occurred before.

Every position is sorted by the tokens before it, nearest first, up to DEPTH of them, by prefix doubling (Manber and
Myers 1990): log2(DEPTH) sorts of 64-bit keys. All positions that share a context are then one range, found by
narrowing once per token. Six bytes a token: two for the token, four for its place in the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_platform.tokenizer import END

DEPTH = 16
# Beyond this many equal contexts the followers are sampled evenly: their shares are known well enough.
MAX_FOLLOWERS = 2048
# A range up to this long is narrowed by one gather, a longer one by bisection.
GATHERED = 256
# Contexts beyond DEPTH are compared one by one among the remaining positions, up to this length.
MAX_MATCH = 32

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Order = npt.NDArray[np.uint32]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """`order` tokens before the cursor equal those before each of `positions`, where the followers stand."""

    order: int
    positions: Positions


def width_of(vocabulary: int) -> np.dtype[Any]:
    """How a token of a vocabulary of that size is kept, little endian."""
    return np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")


def pad(
    documents: Sequence[Sequence[int] | Tokens], *, vocabulary: int = 1 << 16
) -> tuple[Tokens, Positions]:
    """Documents as one stream, and where each begins. END stands between them, and MAX_MATCH times in front, so
    that no match crosses a document and no comparison leaves the stream."""
    kind = width_of(vocabulary)
    parts: list[npt.ArrayLike] = [np.full(MAX_MATCH, END, kind)]
    starts, at = [], MAX_MATCH
    for document in documents:
        starts.append(at)
        parts += [np.asarray(document, kind), np.array([END], kind)]
        at += len(document) + 1
    return np.concatenate(parts).astype(kind, copy=False), np.array(starts, np.int64)


def sort(tokens: Tokens) -> Order:
    """The suffix order of a padded stream: positions by the DEPTH tokens before them, nearest first."""
    count = len(tokens)
    rank = np.zeros(count, np.uint64)
    rank[1:] = tokens[:-1]
    order = np.argsort(rank, kind="stable")
    width = 1
    while width < DEPTH:
        key = rank << np.uint64(32)
        key[width:] |= rank[:-width]
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        rank[order] = np.concatenate(([0], np.cumsum(ordered[1:] != ordered[:-1]))).astype(np.uint64)
        width *= 2
    return order.astype(np.uint32)


class Index:
    """A sorted stream; both arrays may be maps of files. Apart from them it holds only the range of each last token."""

    def __init__(self, tokens: Tokens, order: Order, *, vocabulary: int) -> None:
        self.tokens, self.order = tokens, order
        counts = np.bincount(tokens[:-1], minlength=vocabulary + 1)
        counts[0] += 1  # the first position has nothing before it and sorts with END
        self._ranges = np.concatenate(([0], np.cumsum(counts)))
        # Reading one element of a memoryview takes a third of the time of an array's.
        self._token_at, self._position_at = tokens.data, order.data

    def __len__(self) -> int:
        return len(self.tokens)

    def ranges(self, context: Sequence[int]) -> list[tuple[int, int]]:
        """For each length from 1 on, the range of positions that match so much of the end of `context`."""
        found: list[tuple[int, int]] = []
        if not context:
            return found
        low, high = int(self._ranges[context[-1]]), int(self._ranges[context[-1] + 1])
        while low < high and context[-len(found) - 1] != END:
            found.append((low, high))
            depth = len(found) + 1
            if depth > min(DEPTH, len(context)):
                break
            low, high = self._narrow(low, high, depth, context[-depth])
        return found

    def matches(self, context: Sequence[int]) -> list[Match]:
        """The positions that match the end of `context`, for each number of tokens from 1 on; the last is the longest.

        Lengths beyond DEPTH are searched for the longest only.
        """
        found = [
            Match(order, self._sampled(low, high))
            for order, (low, high) in enumerate(self.ranges(context), 1)
        ]
        if len(found) == DEPTH:
            longest = extend(self.tokens, found[-1].positions, context, DEPTH)
            found += [longest] if longest.order > DEPTH else []
        return found

    def _sampled(self, low: int, high: int) -> Positions:
        return self.order[low : high : -(-(high - low) // MAX_FOLLOWERS)].astype(np.int64)

    def _narrow(self, low: int, high: int, depth: int, token: int) -> tuple[int, int]:
        """The part of a range whose token `depth` before the position is `token`: sorted by it, so by bisection."""
        if high - low <= GATHERED:
            column = self.tokens[self.order[low:high].astype(np.int64) - depth]
            left, right = np.searchsorted(column, [token, token + 1])
            return low + int(left), low + int(right)
        return self._bisect(low, high, depth, token), self._bisect(low, high, depth, token + 1)

    def _bisect(self, low: int, high: int, depth: int, token: int) -> int:
        while low < high:
            middle = (low + high) // 2
            if self._token_at[self._position_at[middle] - depth] < token:
                low = middle + 1
            else:
                high = middle
        return low


def scan(tokens: Tokens, context: Sequence[int]) -> list[Match]:
    """`Index.matches` over a short padded stream without an order: the open file, which changes with every key."""
    if not context or context[-1] == END:
        return []
    positions = np.flatnonzero(tokens[:-1] == context[-1]) + 1
    found: list[Match] = []
    while len(positions):
        found.append(Match(len(found) + 1, positions))
        depth = len(found) + 1
        if depth > min(MAX_MATCH, len(context)) or context[-depth] == END:
            break
        positions = positions[tokens[positions - depth] == context[-depth]]
    return found


def extend(tokens: Tokens, positions: Positions, context: Sequence[int], order: int) -> Match:
    """Lengthens a match as far as any position agrees, and keeps those that do."""
    for depth in range(order + 1, min(MAX_MATCH, len(context)) + 1):
        if context[-depth] == END:
            break
        agreeing = positions[tokens[positions - depth] == context[-depth]]
        if not len(agreeing):
            break
        positions, order = agreeing, depth
    return Match(order, positions)
