"""Discrete Gaussian integers: `Pr[z]` in proportion to `exp(-z^2 / (2 variance))`, from the keystream.

A table of exact cumulative probabilities (256 bits, integer arithmetic) is inverted with 64-bit uniform words. A word
that equals the first 64 bits of a boundary (once in 10^15 draws) gets 192 more bits, and the comparison is then exact.
The table ends where the tail is below 2^-230, so a draw is at most 2^-225 from the table's distribution in total
variation.

A wide distribution is made of two narrow draws: `k * x + y` of variance `v` each is the discrete Gaussian of variance
`(1 + k^2) v`, up to a factor within `1 +- 2.1 exp(-2 pi^2 v / (1 + k^2))` in every probability (Micciancio and Walter
2017; in two lines by Poisson summation, docs/distributed-noise.md). The exponent here is never below 320.
"""

from __future__ import annotations

import bisect
import math
from decimal import Context, Decimal
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sordino_privacy.errors import ConfigurationError
from sordino_privacy.keystream import Keystream

Integers = npt.NDArray[np.int64]

BITS = 256
TAIL_BITS = 230
# For deviations above the table's own, two draws are combined; up to here the factor above is 1 within 10^-130.
TABLE_DEVIATION = 1024
MOST_DEVIATION = 1 << 17
LEAST_DEVIATION = 4.0
# Base variances are rounded up to multiples of this: exact in a float64, and nearly equal variances share one table.
_VARIANCE_GRID = 1 / 1024
_GUIDE_BITS = 16
_PIECE = 1 << 16


class DiscreteGaussian:
    """Draws with at least the requested variance (at most 0.01 % more); `variance` is the exact value.

    Raises ConfigurationError for a deviation below 4 or above 2^17.
    """

    __slots__ = ("_base", "_factor", "variance")

    def __init__(self, variance: float) -> None:
        if not LEAST_DEVIATION**2 <= variance <= MOST_DEVIATION**2:
            raise ConfigurationError(
                f"discrete noise has a deviation from {LEAST_DEVIATION:g} to {MOST_DEVIATION}",
                hint="choose another noise multiplier",
            )
        self._factor = 0 if variance <= TABLE_DEVIATION**2 else _factor(variance)
        share = variance / (1 + self._factor**2)
        self._base = (math.floor(share / _VARIANCE_GRID) + 1) * _VARIANCE_GRID
        self.variance = self._base * (1 + self._factor**2)

    @property
    def _table(self) -> _Table:
        return _table_of(self._base)

    def draw(self, keystream: Keystream, count: int) -> Integers:
        """`count` independent integers, int64."""
        table = self._table
        drawn = table.draw(keystream, count)
        if self._factor:
            drawn *= self._factor
            drawn += table.draw(keystream, count)
        return drawn


def _factor(variance: float) -> int:
    """The smallest whole number that brings the base below the table's deviation."""
    return math.ceil(math.sqrt(max(variance / TABLE_DEVIATION**2 - 1, 0)))


class _Table:
    """Cumulative probabilities of -reach .. reach: a draw is the number of boundaries that a uniform number has
    reached.
    """

    __slots__ = ("_ambiguous", "_boundaries", "_first", "_guide", "_reach")

    def __init__(self, variance: float) -> None:
        weights = _weights(variance)
        self._reach = len(weights) - 1
        ordered = weights[:0:-1] + weights
        total, below = sum(ordered), 0
        self._boundaries: list[int] = []  # exact, of 256 bits; the last one is 1 and is left out
        for weight in ordered[:-1]:
            below += weight
            self._boundaries.append((below << BITS) // total)
        self._first = np.array([boundary >> (BITS - 64) for boundary in self._boundaries], dtype=np.uint64)
        # For each value of the first bits: how many boundaries lie below, and whether more than one lies within.
        edges = np.arange(1 << _GUIDE_BITS, dtype=np.uint64) << np.uint64(64 - _GUIDE_BITS)
        self._guide = np.searchsorted(self._first, edges, side="left").astype(np.int32)
        within = np.diff(np.append(self._guide, len(self._first)))
        self._ambiguous = within > 1

    def draw(self, keystream: Keystream, count: int) -> Integers:
        out = np.empty(count, dtype=np.int64)
        for start in range(0, count, _PIECE):
            piece = out[start : start + _PIECE]
            piece[:] = self._invert(keystream.words(len(piece)), keystream)
        return out

    def _invert(self, words: npt.NDArray[np.uint64], keystream: Keystream) -> Integers:
        """The integers for these uniform words; `keystream` gives more bits for a word that falls on a boundary."""
        bucket = words >> np.uint64(64 - _GUIDE_BITS)
        found: Integers = self._guide[bucket].astype(np.int64)
        boundary = self._first[np.minimum(found, len(self._first) - 1)]
        alone = found < len(self._first)
        tied = alone & (words == boundary)
        found += alone & (words > boundary)
        crowded = np.flatnonzero(self._ambiguous[bucket])
        if len(crowded):
            left = np.searchsorted(self._first, words[crowded], side="left")
            right = np.searchsorted(self._first, words[crowded], side="right")
            found[crowded], tied[crowded] = left, right > left
        for at in np.flatnonzero(tied):
            found[at] = self._decide(int(words[at]), keystream)
        found -= self._reach
        return found

    def _decide(self, word: int, keystream: Keystream) -> int:
        for more in keystream.words((BITS - 64) // 64):
            word = word << 64 | int(more)
        return bisect.bisect_right(self._boundaries, word)


@lru_cache(maxsize=4)
def _table_of(variance: float) -> _Table:
    return _Table(variance)


def _weights(variance: float) -> list[int]:
    """`exp(-z^2 / (2 variance))` for z = 0, 1, ... down to the tail, in units of 2^-300; each off by less than 2^-280.
    By recurrence, with one more factor in each step: exp(-(z+1)^2 c) = exp(-z^2 c) exp(-2zc) exp(-c).
    """
    scale = 300
    reach = math.ceil(math.sqrt(2 * math.log(2) * TAIL_BITS * variance)) + 1
    context = Context(prec=110)
    once = context.exp(context.divide(Decimal(-1), context.multiply(Decimal(2), Decimal(variance))))
    one = 1 << scale
    factor = int(context.multiply(once, Decimal(one)))
    square = factor * factor >> scale
    weights = [one]
    for _ in range(reach):
        weights.append(weights[-1] * factor >> scale)
        factor = factor * square >> scale
    return weights
