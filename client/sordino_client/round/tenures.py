"""Which machine this member takes for the coordinator: the one with the highest tenure that it has ever been shown.

Looked at in the offer, in the proposal, and again in each later message of a round: a machine that was replaced gets no
further than it was when this member learned of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sordino_platform.telemetry import log
from sordino_platform.tenure import FILE, SignedTenure, is_refused, keep_tenure, read_tenure, replaces
from sordino_privacy.secagg import PolicyError

if TYPE_CHECKING:
    from sordino_client.round.member import Member


class SupersededError(PolicyError):
    """The message is of a machine that another one has replaced."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a member makes of a tenure that it was shown: the one to `keep` for it, or the one that it holds and for
    whose sake it takes part in nothing under this one (`refused_for`); neither where the two are the same."""

    keep: SignedTenure | None = None
    refused_for: SignedTenure | None = None


def judge(member: Member, data: bytes) -> Judged:
    """Looks at a tenure, or at none (empty: the first machine has none). Touches nothing.

    Raises ConfigurationError for one that no coordinator of the charters signed, StorageError.
    """
    charters = member.identity.charters.chain()
    keys = {signed.charter.coordinator.identity_key for signed in charters}
    federation = member.membership.federation
    offered = None if not data else SignedTenure.parse(data, federation=federation, keys=keys)
    held = read_tenure(member.folder / FILE, federation=federation, keys=keys)
    if is_refused(offered, held):
        return Judged(refused_for=held)
    return Judged(keep=offered if replaces(offered, held) else None)


def accept_tenure(member: Member, data: bytes) -> bytes:
    """Keeps the tenure that is offered if it is a later one, durably, before anything is answered.

    Returns the one that this member holds where it takes part in nothing under the offered one; empty otherwise. Raises
    ConfigurationError, StorageError.
    """
    judged = judge(member, data)
    keep_judged(member, judged.keep)
    return b"" if judged.refused_for is None else judged.refused_for.to_bytes()


def require_tenure(member: Member, data: bytes) -> SignedTenure | None:
    """The tenure of a proposal that is to be kept, None where it is held already. Touches nothing.

    Raises SupersededError, ConfigurationError, StorageError.
    """
    judged = judge(member, data)
    if judged.refused_for is not None:
        raise SupersededError("another machine has taken this coordinator's place")
    return judged.keep


def keep_judged(member: Member, tenure: SignedTenure | None) -> None:
    """Durable when it returns; None changes nothing. Raises StorageError."""
    if tenure is not None:
        keep_tenure(member.folder / FILE, tenure)
        log().info("coordinator_replaced", member=member.name, count=tenure.tenure.generation)
