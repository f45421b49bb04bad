"""Who masks with whom, who holds whose shares, and the thresholds of a round.

The coordinator chooses the roster, so the number of colluders is never derived from it: `corrupt` is the number for the
charter's whole membership (`Membership.corrupt`), and all of them may be in one roster, even a small one.

Up to 256 members the graph is complete and the share threshold is the quorum. Above, it is a circulant graph
(each member and its k/2 nearest on either side of a ring) over a ring permuted by the roster's hash: Bell, Bonawitz,
Gascón, Lepoint, Raykova, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020. If no circulant
graph is safe, because too many of the roster may collude or drop out, the graph is complete again, which costs more and
is never weaker.

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
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from math import ceil, comb

import numpy as np
import numpy.typing as npt

from sordino_privacy.secagg.encoding import label
from sordino_privacy.secagg.masks import MaskStream
from sordino_privacy.secagg.refusals import FloorError

COMPLETE_LIMIT = 256
SECURITY_BITS = 104
CORRECTNESS_BITS = 20
LARGEST_DEGREE = 1024  # bounds the search, because a coordinator can start it with any roster


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """All numbers of a round, from n, the charter's colluders and its floors.

    `members` n; `corrupt` C; `quorum` q: fewest members in a sum, and fewest signatures that fix it; `degree` k (n - 1
    when complete); `threshold` t, shares that recover a secret; `neighbours`, fewest neighbours of each survivor that
    must survive with it, and sign with it (0 when complete: the quorum implies it).
    """

    members: int
    corrupt: int
    quorum: int
    degree: int
    threshold: int
    neighbours: int

    @property
    def complete(self) -> bool:
        return self.degree == self.members - 1


def quorum(members: int, *, corrupt: int, honest: int) -> int:
    """q, the quorum of sums and of signatures. Two sets of q members share more than `corrupt` members, so at least one
    honest member, and it signs only one set. And each set holds at least `honest` honest members, wherever the
    `corrupt` ones are.
    """
    return max((members + corrupt) // 2 + 1, corrupt + honest)


def thresholds(members: int, *, corrupt: int, honest: int, dropouts: Fraction) -> Thresholds:
    """The numbers of a round with `members` in its roster, of whom `corrupt` may collude with the coordinator.

    `corrupt` follows from the charter's whole membership, never from the roster. `honest` is the charter's floor of
    honest members in a sum, `dropouts` the share that a circulant graph is built for. Raises FloorError when a roster
    of this size could not hold the honest floor beside all colluders.
    """
    if members < corrupt + honest:
        raise FloorError(
            f"a roster of {members} is too small: {corrupt} of its members may collude by the charter, and a sum "
            f"needs {honest} honest ones beside them, so {corrupt + honest} at least"
        )
    signatures = quorum(members, corrupt=corrupt, honest=honest)
    degree, threshold, neighbours = members - 1, signatures, 0
    sparse = degree_and_threshold(members, corrupt, dropouts) if members > COMPLETE_LIMIT else None
    if sparse is not None:
        degree, threshold = sparse
        # A coordinator chooses who "dropped" after it saw the ring. At most threshold - 1 neighbours are corrupt, so
        # with this many surviving neighbours each survivor has `honest` honest ones, whose masks stay secret.
        neighbours = threshold - 1 + honest
    return Thresholds(
        members=members,
        corrupt=corrupt,
        quorum=signatures,
        degree=degree,
        threshold=threshold,
        neighbours=neighbours,
    )


@lru_cache(maxsize=64)
def degree_and_threshold(members: int, corrupt: int, dropouts: Fraction) -> tuple[int, int] | None:
    """The smallest even degree k up to LARGEST_DEGREE, and its threshold t; None when no circulant graph is safe."""
    staying = ceil((1 - dropouts) * members)
    absent = min(members, corrupt + members - staying)
    if staying <= corrupt:
        return None  # on average, as many of a member's neighbours would collude as survive: t1 < t2 is impossible
    for degree in range(2, min(members - 1, LARGEST_DEGREE + 1), 2):
        ways = comb(members, degree)
        if members * members * comb(absent, degree) << SECURITY_BITS >= ways:
            continue
        most = _upper(members, corrupt, degree, ways, SECURITY_BITS + 1)
        least = _lower(members, staying, degree, ways, CORRECTNESS_BITS)
        if most < least:
            return degree, most + 1
    return None


def _upper(members: int, marked: int, draws: int, ways: int, bits: int) -> int:
    """Smallest t with Pr[Hypergeometric(members, marked, draws) > t] <= 2^-bits / members."""
    others, hits = members - marked, min(draws, marked)
    term, tail = comb(marked, hits) * comb(others, draws - hits), 0
    while hits >= 0:
        tail += term
        if members * tail << bits > ways:
            return hits
        # The next term of the tail, computed from this one: exact, and far cheaper than two binomials.
        term = term * hits * (others - draws + hits) // ((marked - hits + 1) * (draws - hits + 1))
        hits -= 1
    return 0


def _lower(members: int, marked: int, draws: int, ways: int, bits: int) -> int:
    """Largest t with Pr[Hypergeometric(members, marked, draws) < t] <= 2^-bits / members."""
    others = members - marked
    hits = max(0, draws - others)
    term, tail = comb(marked, hits) * comb(others, draws - hits), 0
    while hits <= min(draws, marked):
        tail += term
        if members * tail << bits > ways:
            return hits
        term = term * (marked - hits) * (draws - hits) // ((hits + 1) * (others - draws + hits + 1))
        hits += 1
    return draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The graph of one roster. A member is given as its position, 0 to n-1, in the sorted roster. A holder's Shamir
    index is its position plus one. The holders of a member's shares are its neighbours, and in a complete graph also
    the member itself, because the quorum argument counts it among the n members that reveal.

    `order` is the ring (empty when complete), `places` the place of each member on it, and neighbours are those at most
    `half` places away. A neighbourhood is computed when it is first needed, and cached: a member of a large federation
    needs only those of its own neighbours, and the coordinator needs each of them a thousand times.
    """

    members: int
    half: int
    order: tuple[int, ...]
    places: tuple[int, ...]
    _ring: tuple[int, ...] = field(default=(), init=False, repr=False, compare=False)
    _known: dict[int, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A neighbourhood is a slice of the ring. The ring is extended at both ends so that no slice wraps around.
        object.__setattr__(self, "_ring", (*self.order[-self.half :], *self.order, *self.order[: self.half]))

    @classmethod
    def of(cls, numbers: Thresholds, roster_hash: bytes) -> Graph:
        n = numbers.members
        if numbers.complete:
            return cls(members=n, half=0, order=(), places=())
        order = permutation(n, sha256(label("graph") + roster_hash).digest())
        places = [0] * n
        for place, member in enumerate(order):
            places[member] = place
        return cls(members=n, half=numbers.degree // 2, order=tuple(order), places=tuple(places))

    @property
    def complete(self) -> bool:
        return not self.order

    def neighbours(self, member: int) -> tuple[int, ...]:
        """The neighbours of a member, sorted, without the member itself."""
        if self.complete:
            return (*range(member), *range(member + 1, self.members))
        known = self._known.get(member)
        if known is None:
            place = self.places[member]
            near = sorted(self._ring[place : place + 2 * self.half + 1])
            near.remove(member)
            known = self._known[member] = tuple(near)
        return known

    def adjacent(self, one: int, other: int) -> bool:
        """Whether two members are neighbours. No member is its own neighbour."""
        if self.complete:
            return one != other
        apart = abs(self.places[one] - self.places[other])
        return 0 < min(apart, self.members - apart) <= self.half

    def near(self, counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """For each member of a circulant graph, how many of its neighbours are `counted` (one entry per member)."""
        ring = counted[list(self._ring)].astype(np.int64)
        sums = np.concatenate([[0], np.cumsum(ring)])
        width = 2 * self.half + 1
        return np.asarray((sums[width:] - sums[:-width])[list(self.places)] - counted)


def permutation(n: int, key: bytes) -> Sequence[int]:
    """Fisher-Yates from the AES-256-CTR stream of `key`: 64-bit little-endian draws, rejected at or above the largest
    multiple of the bound, from the last place down.
    """
    order = list(range(n))
    stream = MaskStream(key)
    draws = np.empty(2 * n, "<u8")
    stream.fill(draws)
    pending = iter(draws.tolist())
    for last in range(n - 1, 0, -1):
        bound = last + 1
        # 2n draws cannot run out: a rejection has probability below n / 2^64.
        pick = next(value for value in pending if value < (1 << 64) - (1 << 64) % bound) % bound
        order[last], order[pick] = order[pick], order[last]
    return order
