"""Who masks with whom, who holds whose shares, and the thresholds, computed by every party from the roster alone.

Up to 256 members the graph is complete and the share threshold is the quorum. Above, it is a circulant graph
(each member and its k/2 nearest on either side of a ring) over a ring permuted by the roster's hash: Bell, Bonawitz,
Gascón, Lepoint, Raykova, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020.

`degree_and_threshold` finds the smallest even k for which, over the random ring,
 * two cuts of k/2 consecutive corrupt or absent members (what it takes to disconnect the others) have probability
   below 2^-(s+1), by a union bound over pairs of places;
 * more than t1 of a member's k neighbours are corrupt with probability at most 2^-(s+1)/n;
 * fewer than t2 of them stay with probability at most 2^-20/n;
 * t1 < t <= t2; t is the smallest.
s = 104: 40 bits of statistical security plus 64 bits that a coordinator could grind by choosing among rosters. All
of it is exact integer arithmetic, so that every machine finds the same k and t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from math import ceil, comb, floor

import numpy as np

from sordino_privacy.secagg.encoding import label
from sordino_privacy.secagg.masks import Stream
from sordino_privacy.secagg.refusals import ThresholdError

COMPLETE_LIMIT = 256
SECURITY_BITS = 104
CORRECTNESS_BITS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """All numbers of a round, from n and the floors.

    `members` n; `corrupt` n_c; `quorum` q, signatures that fix one survivor set; `survivors`, fewest members in a sum;
    `degree` k (n - 1 when complete); `threshold` t, shares that recover a secret; `surviving_neighbours`, fewest
    neighbours of each survivor that must survive with it (0 when complete: the survivor floor implies it).
    """

    members: int
    corrupt: int
    quorum: int
    survivors: int
    degree: int
    threshold: int
    surviving_neighbours: int

    @property
    def complete(self) -> bool:
        return self.degree == self.members - 1


def quorum(members: int, corrupt: int) -> int:
    """q: two sets of q signers overlap in more than `corrupt` members, so in an honest one, who signs one set only."""
    return (members + corrupt) // 2 + 1


def thresholds(members: int, *, gamma: Fraction, honest: int, dropouts: Fraction) -> Thresholds:
    """The numbers of a round with `members` in its roster. Raises ThresholdError when gamma is 1/3 or more, or when so
    many dropouts are to be survived that no graph is safe."""
    if not 0 <= gamma < Fraction(1, 3):
        raise ThresholdError("gamma must be below 1/3")
    corrupt = floor(gamma * members)
    signatures = quorum(members, corrupt)
    degree, threshold, neighbours = members - 1, signatures, 0
    if members > COMPLETE_LIMIT:
        degree, threshold = degree_and_threshold(members, gamma, dropouts)
        # A coordinator chooses who "dropped" after it saw the ring. At most threshold - 1 neighbours are corrupt,
        # so this many surviving ones leave each survivor `honest` honest neighbours whose masks stay secret.
        neighbours = threshold - 1 + honest
    return Thresholds(
        members=members,
        corrupt=corrupt,
        quorum=signatures,
        survivors=max(signatures, corrupt + honest),
        degree=degree,
        threshold=threshold,
        surviving_neighbours=neighbours,
    )


@lru_cache(maxsize=64)
def degree_and_threshold(members: int, gamma: Fraction, dropouts: Fraction) -> tuple[int, int]:
    """The smallest even degree k and its threshold t. Raises ThresholdError when no circulant graph is safe."""
    corrupt = floor(gamma * members)
    staying = ceil((1 - dropouts) * members)
    absent = min(members, corrupt + members - staying)
    for degree in range(2, members - 1, 2):
        ways = comb(members, degree)
        if members * members * comb(absent, degree) << SECURITY_BITS >= ways:
            continue
        most = _upper(members, corrupt, degree, ways, SECURITY_BITS + 1)
        least = _lower(members, staying, degree, ways, CORRECTNESS_BITS)
        if most < least:
            return degree, most + 1
    raise ThresholdError(f"no graph among {members} members survives that many dropouts safely")


def _upper(members: int, marked: int, draws: int, ways: int, bits: int) -> int:
    """Smallest t with Pr[Hypergeometric(members, marked, draws) > t] <= 2^-bits / members."""
    tail = 0
    for hits in range(min(draws, marked), -1, -1):
        tail += comb(marked, hits) * comb(members - marked, draws - hits)
        if members * tail << bits > ways:
            return hits
    return 0


def _lower(members: int, marked: int, draws: int, ways: int, bits: int) -> int:
    """Largest t with Pr[Hypergeometric(members, marked, draws) < t] <= 2^-bits / members."""
    tail = 0
    for hits in range(draws + 1):
        tail += comb(marked, hits) * comb(members - marked, draws - hits)
        if members * tail << bits > ways:
            return hits
    return draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The graph of one roster. Members are their positions 0 to n-1 in the sorted roster; a holder's Shamir index is
    its position plus one. `neighbours` are sorted and never contain the member itself. Those who hold a member's shares
    are its neighbours, and in a complete graph also itself: the quorum argument counts it among the n who reveal."""

    neighbours: tuple[tuple[int, ...], ...]
    complete: bool

    @classmethod
    def of(cls, numbers: Thresholds, roster_hash: bytes) -> Graph:
        n = numbers.members
        if numbers.complete:
            everyone = range(n)
            return cls(
                neighbours=tuple(tuple(j for j in everyone if j != i) for i in everyone), complete=True
            )
        order = permutation(n, sha256(label("graph") + roster_hash).digest())
        half = numbers.degree // 2
        neighbours: list[tuple[int, ...]] = [()] * n
        for place, member in enumerate(order):
            near = [order[(place + step) % n] for step in range(-half, half + 1) if step]
            neighbours[member] = tuple(sorted(near))
        return cls(neighbours=tuple(neighbours), complete=False)


def permutation(n: int, key: bytes) -> Sequence[int]:
    """Fisher-Yates from the AES-256-CTR stream of `key`: 64-bit little-endian draws, rejected above the largest
    multiple of the bound, from the last place down."""
    order = list(range(n))
    stream = Stream(key)
    draws = np.empty(2 * n, "<u8")
    stream.fill(draws)
    pending = iter(draws.tolist())
    for last in range(n - 1, 0, -1):
        bound = last + 1
        # 2n draws cannot run out: a rejection has probability below n / 2^64.
        pick = next(value for value in pending if value < (1 << 64) - (1 << 64) % bound) % bound
        order[last], order[pick] = order[pick], order[last]
    return order
