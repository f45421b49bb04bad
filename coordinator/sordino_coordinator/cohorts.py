"""Which of the ready members a round asks: a fair share of them, and a few to spare.

Nothing of a round's security rests on who is asked: the charter's floors count every colluder inside whatever roster
there is (docs/protocol.md, section 3). What is decided here is which members do the work and spend their budget, and
that the slowest do not set the pace. Training ends when a cohort has answered; a member that is not done by then gets
its charge back.

The draw follows from the record. Members that were asked least in the recent rounds come first. Between equals a hash
decides, which anybody can compute again from the run, the round and the release that the round begins with.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from hashlib import sha256

from sordino_coordinator.rounds import RoundRecord
from sordino_privacy.secagg import FloorError, Membership

TURNS = 4
"""How many recent rounds count: as many as it takes to ask every member this often."""
MOST_ROUNDS = 1000


def rounds_that_count(members: int, *, size: int) -> int:
    """How many of the newest rounds tell whose turn it is."""
    return min(math.ceil(TURNS * members / size), MOST_ROUNDS)


def turns_taken(rounds: Iterable[RoundRecord]) -> Counter[str]:
    """How often each member was asked: rounds with it in the sum, and rounds that it left after it was asked."""
    return Counter(name for row in rounds for name in {*row.members, *row.dropped})


def lot(seed: bytes, name: str) -> bytes:
    """The lot of a member: 32 bytes."""
    return sha256(b"sordino-lot/1\n" + len(seed).to_bytes(4, "big") + seed + name.encode()).digest()


def drawn_cohort(
    ready: Collection[str],
    *,
    size: int,
    spare: float,
    turns: Counter[str],
    seed: bytes,
    possible: Callable[[Collection[str]], bool],
) -> tuple[str, ...]:
    """The members to ask, sorted: `size` of them and a share `spare` of that more, or all if there are fewer. More are
    added, in turn, while the members chosen so far could not hold a round by the floors of organisations (`possible`).
    """
    order = sorted(ready, key=lambda name: (turns[name], lot(seed, name)))
    asked = math.ceil(size * (1 + spare))
    while asked < len(order) and not possible(order[:asked]):
        asked += 1
    return tuple(sorted(order[:asked]))


def can_hold_round(membership: Membership, names: Collection[str]) -> bool:
    """Whether exactly these members can hold a round, by the charter's floors."""
    floors = membership.floors
    try:
        membership.require_cohort(
            names,
            cohort=floors.cohort,
            organisations=floors.organisations,
            corrupt=floors.corrupt(len(membership.members)),
        )
    except FloorError:
        return False
    return True


def enough_trained(membership: Membership, trained: Collection[str], *, sample: int, quorum: int) -> bool:
    """Whether enough of the asked members have trained, so that nobody waits for the rest. `sample` is how
    many a round wants, 0 for everybody; `quorum` the fewest that it begins with."""
    if not sample or len(trained) < max(sample, quorum):
        return False
    return can_hold_round(membership, trained)
