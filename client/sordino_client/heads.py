"""The head of this member's ledger as it travels: signed on its way out, believed on its way back if it is our own."""

from __future__ import annotations

from sordino_client.ledger import Witness
from sordino_client.member import Member
from sordino_platform.ledger_head import LedgerHead, SignedLedgerHead
from sordino_platform.telemetry import log
from sordino_privacy.errors import ConfigurationError


def signed_head(member: Member) -> bytes:
    """Where the ledger stands now, signed for others to keep; empty while it is known not to be whole."""
    if not member.ledger.whole:
        return b""  # nobody shall take a ledger that lost rows for the newest one
    stands = member.ledger.stands()
    head = LedgerHead(
        federation=member.membership.federation,
        member=member.name,
        generation=stands.generation,
        sequence=stands.sequence,
        charges=stands.charges,
        digest=stands.digest,
    )
    return SignedLedgerHead.sign(head, member.identity.signing_key).to_bytes()


def heed_head(member: Member, data: bytes) -> None:
    """Takes note of the head that the coordinator kept. One that this member did not sign says nothing."""
    if not data:
        return
    public = member.identity.signing_key.public_key().public_bytes_raw()
    try:
        head = SignedLedgerHead.parse(
            data, federation=member.membership.federation, member=member.name, public_key=public
        ).head
    except ConfigurationError as error:
        log().warning("foreign_ledger_head", member=member.name, error=error.message)
        return
    member.ledger.heed(
        Witness(generation=head.generation, sequence=head.sequence, digest=head.digest, charges=head.charges)
    )
