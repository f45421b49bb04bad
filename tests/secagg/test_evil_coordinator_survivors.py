"""Refusals 8 to 10: an evil coordinator lies about who survived, and who signed it."""

from __future__ import annotations

from dataclasses import replace

from tests.secagg.evil import ACCOMPLICE, OTHER, VICTIM, EvilCoordinator, victim_refuses, without
from tests.secagg.federation import signing_key

from sordino_privacy.secagg import (
    IdentityError,
    MalformedError,
    QuorumError,
    SurvivorError,
    UploadSignatureError,
)
from sordino_privacy.secagg.shares import Delivery, Statement
from sordino_privacy.secagg.survivors import Assent, Claim, Opening
from sordino_privacy.secagg.upload import UploadReceipt, u2_digest

# 8 -------------------------------------------------------------------------------------------------------- survivors


def test_8_a_u2_below_the_quorum_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        keep = {VICTIM, OTHER, "member-0001"}
        return replace(
            delivery,
            statements=tuple(s for s in delivery.statements if s.sender in keep),
            parcels=tuple(p for p in delivery.parcels if p.sender in keep),
        )

    victim_refuses(SurvivorError, "upload", delivery=lie)


def test_8_a_u2_beyond_the_roster_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        ghost = Statement.signed(signing_key("member-0005"), delivery.roster_hash, "member-0005", bytes(32))
        return replace(delivery, statements=(*delivery.statements, ghost))

    victim_refuses(SurvivorError, "upload", count=6, drop={"member-0005": "advertise"}, delivery=lie)


def test_8_a_u2_without_this_member_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        return replace(delivery, statements=tuple(s for s in delivery.statements if s.sender != VICTIM))

    victim_refuses(SurvivorError, "upload", delivery=lie)


def test_8_a_u2_with_a_forged_statement_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        forged = tuple(replace(s, root=bytes(32)) if s.sender == OTHER else s for s in delivery.statements)
        return replace(delivery, statements=forged)

    assert victim_refuses(IdentityError, "upload", delivery=lie).culprit == OTHER


def test_8_a_claim_listing_this_member_as_dropped_is_refused() -> None:
    victim_refuses(SurvivorError, "survivors", claim=without(VICTIM))


def test_8_a_claim_that_does_not_mention_this_member_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        return replace(claim, receipts=tuple(r for r in claim.receipts if r.sender != VICTIM))

    victim_refuses(SurvivorError, "survivors", claim=lie)


def test_8_survivors_below_the_floor_are_refused() -> None:
    victim_refuses(SurvivorError, "survivors", claim=without(OTHER, ACCOMPLICE))


def test_8_a_claim_listing_a_member_as_surviving_and_as_dropped_is_refused() -> None:
    victim_refuses(SurvivorError, "survivors", claim=lambda self, claim: replace(claim, dropped=(OTHER,)))


def test_8_a_claim_listing_an_unknown_member_as_dropped_is_refused() -> None:
    victim_refuses(
        SurvivorError, "survivors", claim=lambda self, claim: replace(claim, dropped=("stranger",))
    )


def test_8_a_claim_that_forgets_a_dropped_member_is_refused() -> None:
    victim_refuses(
        SurvivorError,
        "survivors",
        drop={"member-0003": "upload"},
        claim=lambda self, claim: replace(claim, dropped=()),
    )


def test_8_a_claim_with_a_survivor_that_was_not_in_u2_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        ghost = UploadReceipt.signed(
            signing_key("member-0005"), claim.roster_hash, "member-0005", u2_digest(self.u2), bytes(32)
        )
        return replace(claim, receipts=(*claim.receipts, ghost))

    victim_refuses(SurvivorError, "survivors", count=6, drop={"member-0005": "share"}, claim=lie)


def test_8_a_claim_listing_a_member_twice_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        return replace(claim, receipts=(*claim.receipts, claim.receipts[-1]))

    victim_refuses(MalformedError, "survivors", claim=lie)


# 9 ------------------------------------------------------------------------------------------------- upload signatures


def test_9_an_invalid_upload_signature_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        forged = tuple(replace(r, signature=bytes(64)) if r.sender == OTHER else r for r in claim.receipts)
        return replace(claim, receipts=forged)

    assert victim_refuses(UploadSignatureError, "survivors", claim=lie).culprit == OTHER


def test_9_an_upload_that_the_member_did_not_send_is_refused() -> None:
    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        swapped = tuple(replace(r, vector_hash=bytes(32)) if r.sender == OTHER else r for r in claim.receipts)
        return replace(claim, receipts=swapped)

    victim_refuses(UploadSignatureError, "survivors", claim=lie)


def test_9_a_member_that_was_shown_another_u2_is_noticed() -> None:
    """Split view of U2: the accomplice signs an upload over U2 without `OTHER`, to have that mask revealed."""

    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        smaller = u2_digest(name for name in self.u2 if name != OTHER)
        receipt = UploadReceipt.signed(
            signing_key(ACCOMPLICE), claim.roster_hash, ACCOMPLICE, smaller, bytes(32)
        )
        return replace(
            claim, receipts=tuple(receipt if r.sender == ACCOMPLICE else r for r in claim.receipts)
        )

    assert victim_refuses(UploadSignatureError, "survivors", claim=lie).culprit == ACCOMPLICE


# 10 ---------------------------------------------------------------------------------------------------------- quorum


def test_10_fewer_survivor_signatures_than_the_quorum_are_refused() -> None:
    victim_refuses(
        QuorumError, "unmask", opening=lambda self, opening: replace(opening, assents=opening.assents[:3])
    )


def test_10_one_survivor_signature_counted_twice_is_refused() -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        return replace(opening, assents=(*opening.assents[:3], opening.assents[2]))

    victim_refuses(MalformedError, "unmask", opening=lie)


def test_10_a_signature_over_another_survivor_set_is_refused() -> None:
    """Equivocation: another member signed a U3 without the victim, too."""

    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        other = Assent.signed(
            signing_key(OTHER),
            opening.roster_hash,
            OTHER,
            u2_digest(self.u2),
            bytes(32),
            bytes(32),
            bytes(32),
        )
        return replace(opening, assents=tuple(other if a.sender == OTHER else a for a in opening.assents))

    victim_refuses(QuorumError, "unmask", opening=lie)


def test_10_a_signature_of_a_member_that_did_not_survive_does_not_count() -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        assert self._claimed is not None
        claim = self._claimed.claim
        dropped = Assent.signed(
            signing_key(ACCOMPLICE),
            opening.roster_hash,
            ACCOMPLICE,
            u2_digest(self.u2),
            claim.u3_hash(),
            claim.total_hash,
            bytes(32),
        )
        return replace(opening, assents=(*opening.assents[:3], dropped))

    victim_refuses(QuorumError, "unmask", drop={ACCOMPLICE: "upload"}, opening=lie)
