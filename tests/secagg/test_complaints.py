"""A member that was cheated shows the one parcel, and anybody can judge who cheated: its sender, or a false complainer.

The honest are never named, whatever the sender sealed, committed to or signed, and whatever the complainer shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secagg.federation import Federation, SeededEntropy, membership, signing_key

from sordino_privacy.secagg import (
    AbortedError,
    BadParcelError,
    CheatError,
    IdentityError,
    MemberSession,
    OrderError,
    ReplayError,
    SecaggError,
    ShareError,
    Stage,
    SurvivorError,
    judge_complaint,
    keys,
    merkle,
)
from sordino_privacy.secagg.complaint import MAX_COMPLAINT_BYTES, Complaint, complaint_proof
from sordino_privacy.secagg.coordinator.uploading import UploadPhase
from sordino_privacy.secagg.equality import ORDER, Equality, of_key
from sordino_privacy.secagg.roster import Advertisement, Roster
from sordino_privacy.secagg.shamir import PRIME
from sordino_privacy.secagg.shares import Delivery, Leaf, Shares, Statement, share_commitment

EVIL, HIT, OTHER = "member-0003", "member-0001", "member-0002"


def cheater(
    *, hits: tuple[str, ...] = (HIT,), lie: Callable[[Roster, Leaf, bytes], Leaf]
) -> type[MemberSession]:
    """A member whose leaves for `hits` are lies; its statement is over them, and signed."""

    class Cheater(MemberSession):
        def _shares(self) -> bytes:
            true = Shares.decode(super()._shares())
            roster = self._known_roster()
            leaves = tuple(
                lie(roster, leaf, self._state.exchange_key) if leaf.recipient in hits else leaf
                for leaf in true.leaves
            )
            root = merkle.root([leaf.digest() for leaf in leaves])
            statement = Statement.signed(signing_key(EVIL), true.roster_hash, EVIL, root)
            return Shares(roster_hash=true.roster_hash, statement=statement, leaves=leaves).encode()

    return Cheater


def garbage(_: Roster, leaf: Leaf, __: bytes) -> Leaf:
    return replace(leaf, sealed=bytes(80))


def another_commitment(roster: Roster, leaf: Leaf, _: bytes) -> Leaf:
    return replace(leaf, self_commitment=share_commitment(roster.hash, EVIL, leaf.recipient, "b", 5))


def no_field_element(roster: Roster, leaf: Leaf, exchange: bytes) -> Leaf:
    """Well sealed, and committed to: only no share that its holder could ever reveal."""
    mine, theirs = roster.entry(EVIL).exchange, roster.entry(leaf.recipient).exchange
    shared = keys.agree(keys.exchange_key(exchange), theirs)
    key = keys.seal_key(shared, roster.hash, (EVIL, mine), (leaf.recipient, theirs))
    pair = (PRIME, 7)
    sealed = keys.seal(
        key, b"".join(share.to_bytes(32, "big") for share in pair), roster.hash, EVIL, leaf.recipient
    )
    b, s = (
        share_commitment(roster.hash, EVIL, leaf.recipient, which, share)
        for which, share in zip("bs", pair, strict=True)
    )
    return Leaf(recipient=leaf.recipient, sealed=sealed, self_commitment=b, pair_commitment=s)


LIES = (garbage, another_commitment, no_field_element)


def complaint_of(federation: Federation, name: str = HIT) -> tuple[Complaint, dict[str, bytes]]:
    deliveries, _ = federation.until("upload")
    with pytest.raises(BadParcelError) as refused:
        federation.members[name].upload(deliveries[name], federation.updates[name])
    assert refused.value.culprit == EVIL
    return Complaint.decode(refused.value.complaint), dict(deliveries)


@pytest.mark.parametrize("lie", LIES)
def test_a_bad_parcel_names_its_sender_to_the_coordinator_and_to_anybody_with_the_charter(
    lie: Callable[[Roster, Leaf, bytes], Leaf],
) -> None:
    federation = Federation(membership(6), member_types={EVIL: cheater(lie=lie)})
    complaint, deliveries = complaint_of(federation)
    coordinator = federation.coordinator
    for name in federation.names:
        if name not in (HIT, EVIL):
            frames = federation.members[name].upload(deliveries[name], federation.updates[name])
            coordinator.accept_upload(name, frames)
    assert len(complaint.encode()) <= MAX_COMPLAINT_BYTES <= coordinator.largest_answer(HIT)
    coordinator.accept_complaint(HIT, complaint.encode())
    assert list(coordinator.cheaters) == [EVIL]
    assert judge_complaint(coordinator.cheaters[EVIL], federation.membership) == EVIL
    with pytest.raises(AbortedError, match=EVIL):
        coordinator.close_uploads()
    assert coordinator.stage is Stage.ABORTED
    retry = Federation(
        federation.membership, attempt=1, journals=federation.journals, updates=federation.updates
    )
    opened = retry.complete({EVIL: "advertise"})
    assert opened.survivors == tuple(name for name in federation.names if name != EVIL)
    assert (opened.vector == retry.expected(opened.survivors)).all()


@pytest.fixture(scope="module")
def cheated() -> tuple[Federation, Complaint]:
    federation = Federation(membership(6), member_types={EVIL: cheater(lie=garbage)})
    complaint, _ = complaint_of(federation)
    return federation, complaint


def culprit(federation: Federation, complaint: Complaint) -> str:
    return complaint.culprit(federation.membership, federation.coordinator.roster)


@pytest.fixture(scope="module")
def honest() -> tuple[Federation, Complaint]:
    """A complaint of EVIL about an honest member's parcel, which is in order."""
    federation = Federation(membership(6))
    deliveries, _ = federation.until("upload")
    delivery = Delivery.decode(deliveries[EVIL], EVIL)
    (parcel,) = [parcel for parcel in delivery.parcels if parcel.sender == HIT]
    (statement,) = [statement for statement in delivery.statements if statement.sender == HIT]
    session = federation.members[EVIL]
    complaint = Complaint.of(
        parcel, statement, session._known_roster(), EVIL, session._state.exchange_key, SeededEntropy("evil")
    )
    return federation, complaint


def test_whoever_complains_without_cause_is_the_cheater(honest: tuple[Federation, Complaint]) -> None:
    federation, complaint = honest
    lies: list[Complaint] = [
        complaint,
        replace(
            complaint, equality=replace(complaint.equality, shared=complaint.equality.shared[:-1] + b"\x01")
        ),
        replace(complaint, equality=replace(complaint.equality, challenge=1)),
        replace(complaint, equality=replace(complaint.equality, response=ORDER)),
        replace(complaint, statement=replace(complaint.statement, root=bytes(32))),
        replace(complaint, parcel=replace(complaint.parcel, path=())),
        replace(
            complaint, parcel=replace(complaint.parcel, leaf=replace(complaint.parcel.leaf, sealed=bytes(80)))
        ),
        replace(complaint, statement=replace(complaint.statement, sender=EVIL)),
        replace(complaint, statement=replace(complaint.statement, sender="stranger")),
    ]
    for lie in lies:
        message = lie.signed(signing_key(EVIL)).encode()
        with pytest.raises(CheatError) as caught:
            federation.coordinator.accept_complaint(EVIL, message)
        assert caught.value.culprit == EVIL
        assert judge_complaint(caught.value.proof, federation.membership) == EVIL
    assert not federation.coordinator.cheaters


def test_another_point_than_the_true_one_frames_nobody(honest: tuple[Federation, Complaint]) -> None:
    """The forgery that matters: a sealing key that does not open the honest parcel, with a proof for another secret."""
    federation, complaint = honest
    roster = federation.coordinator.roster
    bound = (roster.hash, HIT.encode(), EVIL.encode())
    for private in (b"x" * 32, b"y" * 32):
        false = Equality.proven(private, roster.entry(HIT).exchange, SeededEntropy(private), *bound)
        lie = replace(complaint, equality=false).signed(signing_key(EVIL))
        assert culprit(federation, lie) == EVIL


def test_a_complaint_that_nobody_of_this_attempt_signed_proves_nothing(
    cheated: tuple[Federation, Complaint],
) -> None:
    federation, complaint = cheated
    with pytest.raises(IdentityError):
        culprit(federation, replace(complaint, signature=bytes(64)))
    with pytest.raises(IdentityError):
        culprit(federation, replace(complaint, complainer=OTHER))
    with pytest.raises(IdentityError):
        culprit(federation, replace(complaint, complainer="stranger").signed(signing_key("stranger")))
    with pytest.raises(ReplayError):
        culprit(federation, replace(complaint, roster_hash=bytes(32)).signed(signing_key(HIT)))
    with pytest.raises(IdentityError):
        federation.coordinator.accept_complaint(OTHER, complaint.encode())
    assert not federation.coordinator.cheaters


def test_every_flipped_bit_of_a_complaint_is_refused_or_proves_nothing(
    cheated: tuple[Federation, Complaint],
) -> None:
    federation, complaint = cheated
    message = complaint.encode()
    for at in range(0, len(message), 5):
        lie = message[:at] + bytes([message[at] ^ 1 << at % 8]) + message[at + 1 :]
        with pytest.raises(SecaggError):
            culprit(federation, Complaint.decode(lie))
    for lie in (message[:-1], message + b"\0", b""):
        with pytest.raises(SecaggError):
            Complaint.decode(lie)


def test_a_parcel_that_was_changed_on_its_way_names_nobody_and_shows_nothing() -> None:
    federation = Federation(membership(5))
    deliveries, _ = federation.until("upload")
    delivery = Delivery.decode(deliveries[HIT], HIT)
    first = replace(delivery.parcels[0], leaf=replace(delivery.parcels[0].leaf, sealed=bytes(80)))
    lie = replace(delivery, parcels=(first, *delivery.parcels[1:])).encode()
    with pytest.raises(ShareError) as refused:
        federation.members[HIT].upload(lie, federation.updates[HIT])
    assert not isinstance(refused.value, BadParcelError)
    assert refused.value.culprit is None


def test_a_complaint_comes_in_place_of_an_upload_and_never_after_it_or_from_outside_u2() -> None:
    federation = Federation(membership(6), member_types={EVIL: cheater(lie=garbage)})
    complaint, deliveries = complaint_of(federation)
    frames = federation.members[OTHER].upload(deliveries[OTHER], federation.updates[OTHER])
    federation.coordinator.accept_upload(OTHER, frames)
    with pytest.raises(OrderError):
        federation.coordinator.accept_complaint(
            OTHER, replace(complaint, complainer=OTHER).signed(signing_key(OTHER)).encode()
        )
    gone = Federation(membership(6), member_types={EVIL: cheater(lie=garbage)})
    gone.until("upload", {HIT: "share"})
    with pytest.raises(SurvivorError):
        gone.coordinator.accept_complaint(HIT, complaint.encode())


def test_a_complaint_reveals_the_parcels_of_its_pair_and_no_other(
    cheated: tuple[Federation, Complaint],
) -> None:
    federation, complaint = cheated
    roster = federation.coordinator.roster
    entry = roster.entry(HIT).exchange
    shared = complaint.equality.verified(
        entry, roster.entry(EVIL).exchange, roster.hash, EVIL.encode(), HIT.encode()
    )
    assert shared is not None
    opens = set()
    for sender, shares in federation.coordinator._in(UploadPhase).shares.sent.items():
        for index, holder in enumerate(roster.holders(sender)):
            leaf = shares.parcel(index, holder).leaf
            pair = (
                (sender, roster.entry(sender).exchange),
                (leaf.recipient, roster.entry(leaf.recipient).exchange),
            )
            key = keys.seal_key(shared, roster.hash, *pair)
            try:
                keys.unseal(key, leaf.sealed, roster.hash, sender, leaf.recipient)
            except ShareError:
                continue
            opens.add((sender, leaf.recipient))
    assert opens == {(HIT, EVIL)}  # the other direction is the garbage itself


def test_after_a_complaint_no_secret_is_left(cheated: tuple[Federation, Complaint]) -> None:
    federation, _ = cheated
    state = federation.members[HIT]._state
    assert {getattr(state, name) or b"" for name in ("exchange_key", "pair_seed", "self_seed")} == {b""}
    assert not state.held


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_the_proven_point_is_what_x25519_gives_both_and_no_other_pair_shares_it(a: bytes, b: bytes) -> None:
    mine, theirs = keys.public_key(a), keys.public_key(b)
    proof = Equality.proven(a, theirs, SeededEntropy((a, b)), b"bound")
    assert proof.verified(mine, theirs, b"bound") == keys.agree(keys.exchange_key(b), mine)
    assert proof.verified(mine, theirs, b"other") is None
    if mine != theirs:
        assert proof.verified(theirs, mine, b"bound") is None


class OnTheTwist(MemberSession):
    """Advertises a key of which nothing could be proven, and sends what does not open."""

    def advertise(self) -> bytes:
        super().advertise()
        true = Advertisement.decode(self._state.advertisement)
        twist = next(u for n in range(2, 50) if of_key(u := n.to_bytes(32, "little")) is None)
        self._state.advertisement = replace(true, exchange=twist).signed(signing_key(EVIL)).encode()
        return self._state.advertisement


def test_a_cheater_whose_key_is_on_the_twist_is_named_all_the_same() -> None:
    federation = Federation(membership(6), member_types={EVIL: OnTheTwist})
    complaint, _ = complaint_of(federation)
    federation.coordinator.accept_complaint(HIT, complaint.encode())
    assert list(federation.coordinator.cheaters) == [EVIL]
    assert all(of_key(keys.public_key(bytes([n]) * 32)) for n in range(50))


def test_a_proof_of_another_charter_is_refused(cheated: tuple[Federation, Complaint]) -> None:
    federation, complaint = cheated
    shown = complaint_proof(
        federation.context.encode(), federation.coordinator.roster.encode(), complaint.encode()
    )
    with pytest.raises(SecaggError):
        judge_complaint(shown, membership(6, epoch=2))
