"""Which assents of a large cohort a member checks itself.

Before it reveals, a member must know that enough of the signatures are valid: that the valid ones meet every floor. It
need not know that all are valid. So it draws some at random, from its own entropy, after it received them. If more were
false than the floors can spare, it would draw a false one, except with probability 2^-b. Nobody can steer the draw, and
nobody can repeat it: a member that finds a false signature ends its session, and it has already signed its one set of
the round.

b can be small, because one deceived member is not enough to open anything. A seed needs the shares of t of its owner's
neighbours. c of them may be corrupt, and then t - c others must each be deceived, and their draws are independent.
`sample_bits` finds the smallest b for which this happens to any owner's seed with probability at most 2^-OPENING_BITS,
even if the coordinator chose the ring among 2^GRINDING_BITS rings. The graph itself gives the same guarantee.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import comb

from sordino_privacy.secagg.encoding import KEY_BYTES
from sordino_privacy.secagg.graph import Thresholds, permutation

SAMPLED_ABOVE = 512
"""Up to this many signatures all are checked, in a few hundredths of a second. A sample would be most of them."""
OPENING_BITS = 40
GRINDING_BITS = 64
MOST_BITS = 64
"""The b of complete graphs, where each member must be sure by itself, and where no smaller b is enough."""


@lru_cache(maxsize=64)
def sample_bits(numbers: Thresholds) -> int:
    """b: if there are too many false assents, a member must find one, except with probability 2^-b.

    The failure probability is summed over each number c < t of corrupt neighbours. A summand is the probability that
    the worst neighbourhood of any ring that the coordinator can find has at least c of them,
    times n binom(k - c, t - c) 2^-b(t - c), where n counts the owners of seeds. In exact integers.
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
    """For each c from 0 to t - 1: the number of ways to choose a member's neighbours with c or more corrupt ones."""
    n, corrupt, k = numbers.members, numbers.corrupt, numbers.degree
    left = comb(n, k)
    for c in range(numbers.threshold):
        yield left
        left -= comb(corrupt, c) * comb(n - corrupt, k - c)


@lru_cache(maxsize=64)
def sample_size(signatures: int, spare: int, bits: int) -> int:
    """How many of the signatures, at random places, must be found valid to conclude that at most `spare` are false.

    The smallest m with binom(signatures - spare - 1, m) <= 2^-bits binom(signatures, m), in exact integers: the left
    side over binom(signatures, m) is the probability that m drawn ones are all valid if spare + 1 are false. If more
    are false, it is smaller.
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
    """The places of the signatures to check: all, unless there are many of them and the floors can spare enough."""
    if signatures <= SAMPLED_ABOVE:
        return range(signatures)
    order = permutation(signatures, entropy(KEY_BYTES))
    return order[: sample_size(signatures, spare, sample_bits(numbers))]
