"""Phases 1 and 2 at the coordinator: who takes part (U1), and who of them shared its seeds (U2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from sordino_privacy.secagg.coordinator.stage import AttemptTerms, PerMember, Stage, require_sender
from sordino_privacy.secagg.refusals import (
    FloorError,
    ReplayError,
    RosterError,
    ShareError,
    SurvivorError,
)
from sordino_privacy.secagg.roster import MAX_ADVERTISEMENT_BYTES, Advertisement, Roster, require_roster
from sordino_privacy.secagg.shares import (
    KeptShares,
    Shares,
    delivery_head,
    largest_shares,
    with_parcels,
)
from sordino_privacy.secagg.upload import u2_digest


class AdvertisementPhase:
    """Phase 1. Nobody is awaited: whoever comes, comes."""

    stage: ClassVar[Stage] = Stage.ADVERTISEMENTS

    def __init__(self, terms: AttemptTerms) -> None:
        self._terms = terms
        self._advertisements: dict[str, Advertisement] = {}
        self._used: dict[bytes, str] = {}  # whose each advertised key and commitment is

    def awaiting(self) -> frozenset[str]:
        return frozenset()

    def largest_answer(self, member: str) -> int:
        return MAX_ADVERTISEMENT_BYTES

    def accept(self, sender: str, message: bytes) -> None:
        """A member's later advertisement replaces its earlier one: a restarted member rejoins, and fences the old.

        Raises MalformedError, IdentityError, ContextError, RosterError (another member's key), FloorError (full).
        """
        advertisement, limit = Advertisement.decode(message), self._terms.context.quantiser.cohort_limit
        require_sender(sender, advertisement.name)
        advertisement.verify(self._terms.membership, self._terms.ctx)
        earlier = self._advertisements.get(sender)
        others = len(self._advertisements) - (earlier is not None)
        if others >= limit:
            raise FloorError(f"the cohort is full: the quantiser allows {limit} members")
        if any(self._used.get(value, sender) != sender for value in advertisement.own_values()):
            raise RosterError(f"{sender!r} advertised a key of another member", culprit=sender)
        for value in earlier.own_values() if earlier else ():
            self._used.pop(value, None)
        self._used.update(dict.fromkeys(advertisement.own_values(), sender))
        self._advertisements[sender] = advertisement

    def close(self) -> Roster:
        """The roster of all that advertised. Raises what `require_roster` raises."""
        membership, context = self._terms.membership, self._terms.context
        roster = Roster.of(membership, context, self._advertisements.values())
        # Every signature was checked when its advertisement came.
        require_roster(roster.entries, membership, context, signed=())
        return roster


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortShares:
    """U2, sorted: the members of the roster that shared, and what each shared."""

    roster: Roster
    u2: tuple[str, ...]
    u2_hash: bytes
    sent: Mapping[str, KeptShares]

    def deliveries(self) -> PerMember:
        """A delivery for each member of U2: all statements, and the parcels of its neighbours."""
        roster = self.roster
        head = delivery_head(roster.hash, [self.sent[sender].statement for sender in self.u2])

        def delivery(recipient: str) -> bytes:
            parcels = [
                shares.parcel(roster.place(sender, recipient), recipient)
                for sender in roster.neighbours(recipient)
                if (shares := self.sent.get(sender))
            ]
            return with_parcels(head, parcels)

        return PerMember(self.u2, head, delivery)

    def commitment(self, owner: str, holder: str, which: str) -> bytes:
        """What `owner` committed to for the share that `holder` has of its b seed or its s seed."""
        own, pair = self.sent[owner].committed(self.roster.place(owner, holder))
        return own if which == "b" else pair

    def delivered(self) -> CohortShares:
        """The same without what no later phase needs, which is most of it."""
        return replace(self, sent={name: shares.delivered() for name, shares in self.sent.items()})


class SharePhase:
    """Phase 2: every member of the roster shares both its seeds among its holders."""

    stage: ClassVar[Stage] = Stage.SHARES

    def __init__(self, terms: AttemptTerms, roster: Roster) -> None:
        self._terms, self._roster = terms, roster
        self._shares: dict[str, KeptShares] = {}

    def awaiting(self) -> frozenset[str]:
        return frozenset(self._roster.names) - self._shares.keys()

    def largest_answer(self, member: str) -> int:
        return largest_shares(self._roster.holders_each)

    def accept(self, sender: str, message: bytes) -> None:
        """Raises MalformedError, IdentityError, SurvivorError (not in the roster), ShareError (other holders),
        ReplayError (another attempt, or a second set)."""
        roster, shares = self._roster, Shares.decode(message)
        require_sender(sender, shares.statement.sender)
        if shares.roster_hash != roster.hash:
            raise ReplayError(f"a message of {sender!r} belongs to another attempt or roster", culprit=sender)
        if sender not in roster.positions:
            raise SurvivorError(f"{sender!r} is not in the roster", culprit=sender)
        if tuple(leaf.recipient for leaf in shares.leaves) != roster.holders(sender):
            raise ShareError(f"{sender!r} did not share with exactly its holders", culprit=sender)
        shares.statement.verify(self._terms.membership, roster.hash)
        kept = shares.kept()
        if self._shares.setdefault(sender, kept) != kept:
            raise ReplayError(f"{sender!r} sent a second, different set of shares", culprit=sender)

    def close(self) -> CohortShares:
        """Raises SurvivorError when fewer than the quorum shared."""
        u2, quorum = tuple(sorted(self._shares)), self._roster.numbers.quorum
        if len(u2) < quorum:
            raise SurvivorError(f"{len(u2)} members are below the quorum of {quorum}")
        return CohortShares(roster=self._roster, u2=u2, u2_hash=u2_digest(u2), sent=self._shares)
