"""Which of a large cohort's assents a member checks itself.

What members must know before they reveal is that enough of the signatures are true: with every floor met by those. No
member need know that all are. So it draws some at random, after it was shown them, from its own entropy: were more
false than the floors can spare, it would draw one of those but for a chance of 2^-b. Nobody can steer the draw, and
nobody can repeat it: a member that finds a false signature ends its session, and has signed its one set of the round.

b is small, because one member that was deceived opens nothing. A seed needs the shares of t of its owner's neighbours;
c of them may be corrupt, and the other t - c must each be deceived, by draws that have nothing to do with each other.
`sample_bits` finds the smallest b for which this happens to any owner's seed with a probability of at most
2^-OPENING_BITS, whatever ring a coordinator found among 2^GRINDING_BITS: what the graph itself promises.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import comb

from sordino_privacy.secagg.encoding import KEY_BYTES
from sordino_privacy.secagg.graph import Thresholds, permutation

SAMPLED_ABOVE = 512
"""Signatures. So many are checked in a few hundredths of a second; of fewer a sample would be most of them."""
OPENING_BITS = 40
GRINDING_BITS = 64
MOST_BITS = 64
"""What each member knows by itself, in a complete graph and where no fewer are enough."""


@lru_cache(maxsize=64)
def sample_bits(numbers: Thresholds) -> int:
    """b: a member must find false assents, where there are too many, but for a chance of 2^-b.

    Over the owners of seeds, and for each number c < t of corrupt neighbours: the chance that the fullest neighbourhood
    of any ring that can be found has c of them, times n binom(k - c, t - c) 2^-b(t - c). In exact integers.
    """
    if numbers.complete:
        return MOST_BITS
    n, k, t = numbers.members, numbers.degree, numbers.threshold
    ways = comb(n, k)
    found = [min(ways, n * tail << GRINDING_BITS) for tail in _tails(numbers)]
    weights = [n * found[c] * comb(k - c, t - c) for c in range(t)]

    def enough(bits: int) -> bool:
        opened = sum(weight << bits * c for c, weight in enumerate(weights))
        return opened << OPENING_BITS <= ways << bits * t

    return bisect_left(range(MOST_BITS), True, key=enough)


def _tails(numbers: Thresholds) -> Iterator[int]:
    """For each c from 0 to t - 1: in how many ways a member's neighbours can hold c corrupt ones or more."""
    n, corrupt, k = numbers.members, numbers.corrupt, numbers.degree
    left = comb(n, k)
    for c in range(numbers.threshold):
        yield left
        left -= comb(corrupt, c) * comb(n - corrupt, k - c)


@lru_cache(maxsize=64)
def sample_size(signatures: int, spare: int, bits: int) -> int:
    """How many of so many signatures must be found true at random places, to know that no more than `spare` are false.

    The smallest m with binom(signatures - spare - 1, m) <= 2^-bits binom(signatures, m), in exact integers: the chance
    that m of them are true where spare + 1 are false (and more false ones are found sooner).
    """
    passes = ways = 1
    for drawn in range(signatures):
        if passes << bits <= ways:
            return drawn
        passes *= max(signatures - spare - 1 - drawn, 0)
        ways *= signatures - drawn
    return signatures


def sampled(
    signatures: int, spare: int, numbers: Thresholds, entropy: Callable[[int], bytes]
) -> Sequence[int]:
    """The places of the signatures to check: all of them, unless there are many and enough to spare."""
    if signatures <= SAMPLED_ABOVE:
        return range(signatures)
    order = permutation(signatures, entropy(KEY_BYTES))
    return order[: sample_size(signatures, spare, sample_bits(numbers))]
