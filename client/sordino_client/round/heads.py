"""The head of this member's ledger, sent to the coordinator and back: it is signed here, and believed on return only if
this member signed it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sordino_client.ledger import Witness
from sordino_client.ledger.witness import RECOVER
from sordino_platform.ledger_head import LedgerHead, SignedLedgerHead
from sordino_platform.release import ReleaseStore
from sordino_platform.telemetry import log
from sordino_privacy.errors import ConfigurationError, StorageError
from sordino_privacy.signing import SignerError

if TYPE_CHECKING:
    from sordino_client.round.member import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class UnchargedRelease:
    """A release that was made with this member's update, of a round that its ledger does not know."""

    run: str
    round: int
    charter_hash: bytes


def signed_head(member: Member) -> bytes:
    """The signed head of the ledger, for others to keep. Empty while the ledger is known not to be whole, and while the
    token that holds the key does not answer (the offer is then refused: see `unready`)."""
    if not member.ledger.whole:
        return b""  # a ledger that lost rows must not be taken for the newest state
    stands = member.ledger.stands()
    head = LedgerHead(
        federation=member.membership.federation,
        member=member.name,
        generation=stands.generation,
        sequence=stands.sequence,
        charges=stands.charges,
        digest=stands.digest,
        before=stands.before,
    )
    try:
        return SignedLedgerHead.sign(head, member.identity.signing_key).to_bytes()
    except SignerError:
        return b""


def compare_head(member: Member, data: bytes) -> None:
    """Takes note of the head that the coordinator kept. One that this member did not sign says nothing."""
    if not data:
        return
    public = member.identity.signing_key.public_key
    try:
        head = SignedLedgerHead.parse(
            data, federation=member.membership.federation, member=member.name, public_key=public
        ).head
    except ConfigurationError as error:
        log().warning("foreign_ledger_head", member=member.name, error=error.message)
        return
    member.ledger.compare_with(
        Witness(
            generation=head.generation,
            sequence=head.sequence,
            digest=head.digest,
            charges=head.charges,
            before=head.before,
        )
    )


def require_charged(member: Member) -> None:
    """Every release in this member's own verified chain that names it has a charge. Raises StorageError.

    This needs no help from the coordinator: it could withhold the head, but it cannot take back the releases.
    """
    charged = {(charge.run, charge.round) for charge in member.ledger.reservations()}
    missing = uncharged(member.releases, member.name, charged)
    if missing:
        raise StorageError(
            f"{len(missing)} releases were made with this member's update, the first in round {missing[0].round}, "
            "and the privacy ledger knows nothing of them: it was restored or deleted, or the coordinator lies",
            hint=f"if the ledger was restored or deleted: {RECOVER}. If not, keep the releases folder: it is the proof",
        )


def uncharged(
    releases: ReleaseStore, name: str, charged: Collection[tuple[str, int]]
) -> list[UnchargedRelease]:
    """The releases that name the member, of rounds that are not charged, oldest first."""
    return [
        UnchargedRelease(run=made.run, round=made.round, charter_hash=made.charter_hash)
        for made in (signed.manifest for signed in releases.chain())
        if made.round is not None and name in made.members and (made.run, made.round) not in charged
    ]
