"""Refusals 11 and 12: an evil coordinator asks for what would open one member's update, or passes on bad shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.secagg.evil import (
    OTHER,
    VICTIM,
    EvilCoordinator,
    answer,
    both_shares_of_one,
    victim_refuses,
    without,
)
from tests.secagg.federation import Federation, membership

from sordino_privacy.secagg import ReplayError, RevealError, ShareError
from sordino_privacy.secagg.shares import Delivery, Leaf
from sordino_privacy.secagg.survivors import Claim, Opening

# 11 ---------------------------------------------------------------------------------------------------------- reveal


def test_11_a_request_for_both_shares_of_one_peer_is_refused() -> None:
    assert "both shares" in victim_refuses(RevealError, "unmask", opening=both_shares_of_one).message


@pytest.mark.parametrize("kind", ["alive", "dropped"])
def test_11_a_request_for_a_share_of_a_stranger_is_refused(kind: str) -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        more = tuple(sorted({*getattr(opening, kind), "stranger"}))
        return replace(opening, **{kind: more})  # type: ignore[arg-type]

    assert "no neighbour" in victim_refuses(RevealError, "unmask", opening=lie).message


def test_11_a_request_for_the_pairwise_seed_of_a_survivor_is_refused() -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        return replace(opening, alive=tuple(n for n in opening.alive if n != OTHER), dropped=(OTHER,))

    victim_refuses(RevealError, "unmask", opening=lie)


def test_11_a_request_for_the_self_mask_of_a_dropped_member_is_refused() -> None:
    """A late upload is in the coordinator's hands: with the self mask too it would be an open book."""

    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        return replace(opening, alive=tuple(sorted({*opening.alive, "member-0003"})), dropped=())

    victim_refuses(RevealError, "unmask", drop={"member-0003": "upload"}, opening=lie)


def test_11_a_request_listing_this_member_as_dropped_is_refused() -> None:
    def lie(self: EvilCoordinator, opening: Opening) -> Opening:
        return replace(opening, alive=tuple(n for n in opening.alive if n != VICTIM), dropped=(VICTIM,))

    victim_refuses(RevealError, "unmask", opening=lie)


def test_11_a_second_request_is_refused_in_the_same_session() -> None:
    federation = Federation(membership(5))
    openings, _ = federation.until("unmask")
    answer(federation, "unmask", openings)
    with pytest.raises(RevealError, match="already"):
        answer(federation, "unmask", openings)


def test_11_a_second_request_is_refused_by_a_session_restored_from_before_the_first() -> None:
    federation = Federation(membership(5))
    openings, _ = federation.until("unmask")
    assert isinstance(openings, Mapping)
    snapshot = federation.members[VICTIM].snapshot_with_secrets()
    answer(federation, "unmask", openings)
    restored = federation.restored(VICTIM, snapshot, "restored")
    with pytest.raises(RevealError, match="already revealed"):
        restored.unmask(openings[VICTIM], federation.updates[VICTIM])


def test_11_a_session_restored_from_before_its_signature_cannot_sign_another_survivor_set() -> None:
    federation = Federation(membership(5))
    claim, _ = federation.until("survivors")
    assert isinstance(claim, bytes)
    snapshot = federation.members[VICTIM].snapshot_with_secrets()
    federation.members[VICTIM].survivors(claim)
    restored = federation.restored(VICTIM, snapshot, "restored")
    smaller = without(OTHER)(EvilCoordinator(federation.membership, federation.context), Claim.decode(claim))
    with pytest.raises(ReplayError, match="another set of survivors"):
        restored.survivors(smaller.encode())


# 12 ----------------------------------------------------------------------------------------------------------- share


@pytest.mark.parametrize("field", ["sealed", "self_commitment", "pair_commitment"])
def test_12_a_share_that_its_carrier_changed_is_refused_and_nobody_named(field: str) -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        def tampered(leaf: Leaf) -> Leaf:
            return replace(leaf, **{field: bytes(len(getattr(leaf, field)))})  # type: ignore[arg-type]

        parcels = (replace(p, leaf=tampered(p.leaf)) if p.sender == OTHER else p for p in delivery.parcels)
        return replace(delivery, parcels=tuple(parcels))

    assert victim_refuses(ShareError, "upload", delivery=lie).culprit is None, (
        "the coordinator itself may have done it"
    )


def test_12_a_share_sealed_for_another_member_is_refused() -> None:
    def lie(self: EvilCoordinator, delivery: Delivery) -> Delivery:
        first, second, *rest = delivery.parcels
        return replace(delivery, parcels=(replace(first, leaf=second.leaf, path=second.path), second, *rest))

    victim_refuses(ShareError, "upload", delivery=lie)


def test_12_a_withheld_share_is_refused() -> None:
    victim_refuses(
        ShareError,
        "upload",
        delivery=lambda self, delivery: replace(delivery, parcels=delivery.parcels[1:]),
    )
