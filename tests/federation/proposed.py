"""What a coordinator says before and at the beginning of a round, for tests that say it to a member by hand."""

from __future__ import annotations

from typing import Any

from sordino_client.round.member import Member
from sordino_coordinator.attempt import attempt_context
from sordino_coordinator.federation import Federation
from sordino_coordinator.ongoing import OngoingRound
from sordino_platform.offer import Offer
from sordino_platform.proposal import Proposal


def offer_of(federation: Federation, **other: Any) -> Offer:
    """An offer of round 1 to five members, all there; `other` replaces fields of it."""
    said: dict[str, Any] = {"round": 1, "release": 0, "connected": 5, "ready": 5, "required": 4, "members": 5}
    return Offer(**{"run": federation.run, "plan": federation.plan, **said, **other})


def proposal_of(federation: Federation, *, round: int = 1) -> Proposal:
    """The first attempt of a round under the federation's plan."""
    return Proposal(
        context=attempt_context(federation, OngoingRound(round, {}, {})),
        plan=federation.plan,
        provenance=federation.records.provenance(after=-1),
    )


def charges(members: dict[str, Member]) -> dict[str, int]:
    """How many rounds stand in each member's ledger, held or spent."""
    return {name: len(member.ledger.reservations()) for name, member in members.items()}
