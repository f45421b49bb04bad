"""Which of a large cohort's assents a member checks itself.

What a member must know before it reveals is that enough of the signatures are true: with every floor met by those. It
need not know that all are. So it draws some at random, after it was shown them, from its own entropy: were more false
than the floors can spare, it would draw one of those but for a chance of 2^-SAMPLE_BITS. Nobody can steer the draw, and
nobody can repeat it: a member that finds a false signature ends its session, and has signed its one set of the round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from sordino_privacy.secagg.encoding import KEY_BYTES
from sordino_privacy.secagg.graph import permutation

SAMPLED_ABOVE = 512
"""Signatures. So many are checked in a few hundredths of a second; of fewer a sample would be most of them."""
SAMPLE_BITS = 64


@lru_cache(maxsize=64)
def sample_size(signatures: int, spare: int) -> int:
    """How many of so many signatures must be found true at random places, to know that no more than `spare` are false.

    The smallest m with binom(signatures - spare - 1, m) <= 2^-SAMPLE_BITS binom(signatures, m), in exact integers: the
    chance that m of them are true where spare + 1 are false (and more false ones are found sooner).
    """
    passes = ways = 1
    for drawn in range(signatures):
        if passes << SAMPLE_BITS <= ways:
            return drawn
        passes *= max(signatures - spare - 1 - drawn, 0)
        ways *= signatures - drawn
    return signatures


def sampled(signatures: int, spare: int, entropy: Callable[[int], bytes]) -> Sequence[int]:
    """The places of the signatures to check: all of them, unless there are many and enough to spare."""
    if signatures <= SAMPLED_ABOVE:
        return range(signatures)
    order = permutation(signatures, entropy(KEY_BYTES))
    return order[: sample_size(signatures, spare)]
