"""Whom a round asks, of those that are ready: a fair share of the members, and a few to spare.

Nothing of a round's security rests on who is asked: the charter's floors count every colluder inside whatever roster
there is (docs/protocol.md, section 3). What is decided here is who bears the work and spends the budget, and that the
slowest do not set the pace: training ends when a cohort has answered, and who is not done by then gets its charge back.

The draw follows from what is on record: who was asked least in the rounds that count, and between equals a lot that
anybody can draw again from the run, the round and the release that it begins with.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from hashlib import sha256

from sordino_coordinator.rounds import RoundRecord
from sordino_privacy.secagg import FloorError, Membership

TURNS = 4
"""Rounds that count: in so many turns everybody would have been asked that often."""
MOST_ROUNDS = 1000


def rounds_that_count(members: int, *, size: int) -> int:
    """How many of the newest rounds tell whose turn it is."""
    return min(math.ceil(TURNS * members / size), MOST_ROUNDS)


def turns_taken(rounds: Iterable[RoundRecord]) -> Counter[str]:
    """How often each member was asked: it is in the sum, or it was left out after it had been asked."""
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
    """Whom to ask: `size` and the share `spare` of it more, sorted; everybody, if there are not so many.

    More where a round of the first ones would not be `possible` by the floors of organisations, whoever comes next.
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
    """Whether so many of those that were asked have trained that the others need not be waited for. `sample` is how
    many a round wants, 0 for everybody; `quorum` the fewest that it begins with."""
    if not sample or len(trained) < max(sample, quorum):
        return False
    return can_hold_round(membership, trained)
