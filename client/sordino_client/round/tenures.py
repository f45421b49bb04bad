"""Which machine this member takes for the coordinator: the one with the highest tenure that it has ever been shown.

The tenure is checked in the offer, in the proposal, and again in each later message of a round: a machine that was
replaced gets no further once this member has learned of it.
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
    """A member's verdict on a tenure that it was shown: the tenure to `keep`, or the higher one that it holds already,
    because of which it takes no part under this one (`refused_for`). Both are None if the shown tenure is the one that
    it holds."""

    keep: SignedTenure | None = None
    refused_for: SignedTenure | None = None


def judge(member: Member, data: bytes) -> Judged:
    """Judges a tenure (empty: the first machine has none) and changes nothing.

    Raises ConfigurationError for a tenure that no coordinator of the charters signed, StorageError.
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

    Returns the tenure that this member holds if it takes no part under the offered one; empty otherwise. Raises
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
