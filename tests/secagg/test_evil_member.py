"""An evil member, which subclasses the real one, against an honest coordinator.

The coordinator must refuse its message by name, keep its state, and go on without it; or, where the lie shows only
when the sum is opened, name the cheater and open nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.secagg.federation import PHASES, Federation, SeededEntropy, membership, quantiser, signing_key

from sordino_privacy.secagg import (
    AbortedError,
    AggregateSum,
    BusyError,
    CheatError,
    ContextError,
    FloorError,
    IdentityError,
    Lengths,
    MalformedError,
    MemberSession,
    NormError,
    OrderError,
    Quantised,
    ReplayError,
    RosterError,
    SecaggError,
    ShareError,
    Stage,
    SurvivorError,
    Totals,
    UploadSignatureError,
    euclidean_norm,
    keys,
    merkle,
)
from sordino_privacy.secagg.member import sharing
from sordino_privacy.secagg.member.sent import Sent
from sordino_privacy.secagg.roster import Advertisement
from sordino_privacy.secagg.shares import Shares, Statement, share_commitment
from sordino_privacy.secagg.survivors import Reveal
from sordino_privacy.secagg.upload import SLICE_BYTES

EVIL, HONEST = "member-0003", "member-0001"


def test_an_advertisement_in_anothers_name_is_refused() -> None:
    federation = Federation(membership(5))
    stolen = federation.members[HONEST].advertise()
    with pytest.raises(IdentityError) as refused:
        federation.coordinator.accept_advertisement(EVIL, stolen)
    assert refused.value.culprit == EVIL


def test_an_advertisement_signed_by_another_key_for_another_context_or_with_a_weak_or_copied_key_is_refused() -> (
    None
):
    federation = Federation(membership(5))
    coordinator = federation.coordinator
    coordinator.accept_advertisement(HONEST, federation.members[HONEST].advertise())
    honest = Advertisement.decode(federation.members[HONEST]._state.advertisement)
    own = Advertisement.decode(federation.members[EVIL].advertise())
    lies: list[tuple[Advertisement, str, type[SecaggError]]] = [
        (own, HONEST, IdentityError),
        (replace(own, ctx=bytes(32)), EVIL, ContextError),
        (replace(own, masking=bytes(32)), EVIL, RosterError),
        (replace(own, masking=honest.exchange), EVIL, RosterError),
        (replace(own, commitment=honest.commitment), EVIL, RosterError),
    ]
    for lie, signer, refusal in lies:
        with pytest.raises(refusal):
            coordinator.accept_advertisement(EVIL, lie.signed(signing_key(signer)).encode())
    coordinator.accept_advertisement(EVIL, own.encode())


def test_a_stranger_is_refused() -> None:
    federation = Federation(membership(5))
    own = replace(Advertisement.decode(federation.members[EVIL].advertise()), name="stranger")
    with pytest.raises(IdentityError):
        federation.coordinator.accept_advertisement("stranger", own.signed(signing_key("stranger")).encode())


def test_more_members_than_the_ring_can_add_are_refused() -> None:
    federation = Federation(membership(4), quantiser=quantiser(11, cohort_limit=3))
    for name in federation.names[:3]:
        federation.coordinator.accept_advertisement(name, federation.members[name].advertise())
    with pytest.raises(FloorError, match="full"):
        federation.coordinator.accept_advertisement(EVIL, federation.members[EVIL].advertise())


def flipped(message: bytes) -> Iterator[bytes]:
    """The message with one bit flipped, at every byte of its first 200 and at 100 places of the rest."""
    places = [*range(min(200, len(message))), *range(200, len(message), max(1, (len(message) - 200) // 100))]
    for at in places:
        yield message[:at] + bytes([message[at] ^ (1 << at % 8)]) + message[at + 1 :]


def test_one_flipped_bit_anywhere_in_any_message_is_refused_and_the_true_message_still_accepted() -> None:
    federation = Federation(membership(3))
    coordinator = federation.coordinator
    members, message = federation.members, None
    accept: dict[str, Callable[[str, bytes], None]] = {
        "advertise": coordinator.accept_advertisement,
        "share": coordinator.accept_shares,
        "upload": lambda name, data: coordinator.accept_upload(name, [data]),
        "survivors": coordinator.accept_survivors,
        "unmask": coordinator.accept_reveal,
    }
    make: dict[str, Callable[[str, Any], bytes]] = {
        "advertise": lambda name, _: members[name].advertise(),
        "share": lambda name, roster: members[name].share(roster),
        "upload": lambda name, deliveries: upload_of(federation, deliveries, name),
        "survivors": lambda name, claim: members[name].survivors(claim),
        "unmask": lambda name, openings: members[name].unmask(openings[name], federation.updates[name]),
    }
    close: dict[str, Callable[[], Any]] = {
        "advertise": coordinator.close_advertisements,
        "share": coordinator.close_shares,
        "upload": coordinator.close_uploads,
        "survivors": coordinator.close_survivors,
        "unmask": coordinator.open,
    }
    for phase in PHASES:
        for name in federation.names:
            true = make[phase](name, message)
            for lie in flipped(true) if name == federation.names[0] else ():
                with pytest.raises(SecaggError):
                    accept[phase](name, lie)
            accept[phase](name, true)
        message = close[phase]()
    assert isinstance(message, AggregateSum)
    assert np.array_equal(message.vector, federation.expected(federation.names))


def test_truncated_and_extended_messages_are_refused() -> None:
    federation = Federation(membership(3))
    true = federation.members["member-0000"].advertise()
    for lie in (true[:-1], true + b"\0", b"", true[:5], b"x" * 100, true * 2):
        with pytest.raises(MalformedError):
            federation.coordinator.accept_advertisement("member-0000", lie)


def test_a_second_different_set_of_shares_is_refused_and_the_same_one_accepted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federation = Federation(membership(5))
    roster, _ = federation.until("share")
    snapshot = federation.members[EVIL].snapshot_with_secrets()
    first = federation.members[EVIL].share(roster)
    monkeypatch.setattr(sharing, "polynomials", lambda *of: SeededEntropy("other"))
    other = federation.restored(EVIL, snapshot, "other").share(roster)
    federation.coordinator.accept_shares(EVIL, first)
    federation.coordinator.accept_shares(EVIL, first)
    with pytest.raises(ReplayError, match="second"):
        federation.coordinator.accept_shares(EVIL, other)


def test_shares_for_other_members_than_the_holders_are_refused() -> None:
    federation = Federation(membership(5))
    roster, _ = federation.until("share")
    true = Shares.decode(federation.members[EVIL].share(roster))
    leaves = true.leaves[1:]
    statement = Statement.signed(
        signing_key(EVIL), true.roster_hash, EVIL, merkle.root([leaf.digest() for leaf in leaves])
    )
    with pytest.raises(ShareError):
        federation.coordinator.accept_shares(
            EVIL, Shares(roster_hash=true.roster_hash, statement=statement, leaves=leaves).encode()
        )


class Liar(MemberSession):
    """Shares another seed than it committed to (b), or than its public key is made of (s)."""

    lie_about = "self_seed"

    def _shares(self) -> bytes:
        true = getattr(self._state, self.lie_about)
        setattr(self._state, self.lie_about, bytes(31) + b"\x07")
        message = super()._shares()
        setattr(self._state, self.lie_about, true)
        return message


class PairLiar(Liar):
    lie_about = "pair_seed"


def test_a_member_that_shared_another_self_seed_is_named_and_nothing_opens() -> None:
    federation = Federation(membership(5), member_types={EVIL: Liar})
    with pytest.raises(CheatError) as caught:
        federation.complete()
    assert caught.value.culprit == EVIL
    assert federation.coordinator.stage is Stage.ABORTED
    with pytest.raises(AbortedError):
        federation.coordinator.open()


def test_a_dropped_member_that_shared_another_pairwise_seed_is_named_and_nothing_opens() -> None:
    federation = Federation(membership(5), member_types={EVIL: PairLiar})
    with pytest.raises(CheatError) as caught:
        federation.complete({EVIL: "upload"})
    assert caught.value.culprit == EVIL


class FalseCommitter(MemberSession):
    """Commits to other shares than it seals."""

    def _shares(self) -> bytes:
        true = Shares.decode(super()._shares())
        leaves = []
        for leaf in true.leaves:
            lie = share_commitment(true.roster_hash, EVIL, leaf.recipient, "b", 5)
            leaves.append(replace(leaf, self_commitment=lie))
        statement = Statement.signed(
            signing_key(EVIL), true.roster_hash, EVIL, merkle.root([leaf.digest() for leaf in leaves])
        )
        return Shares(roster_hash=true.roster_hash, statement=statement, leaves=tuple(leaves)).encode()


def test_a_member_whose_commitments_are_not_of_its_shares_is_named_by_every_recipient() -> None:
    federation = Federation(membership(5), member_types={EVIL: FalseCommitter})
    deliveries, _ = federation.until("upload")
    for name in federation.names:
        if name != EVIL:
            with pytest.raises(ShareError) as refused:
                federation.members[name].upload(deliveries[name], federation.updates[name])
            assert refused.value.culprit == EVIL


@pytest.mark.parametrize("kind", ["self_shares", "pair_shares"])
def test_a_revealed_share_that_is_not_the_true_one_is_refused_its_sender_named_and_the_sum_still_opens(
    kind: str,
) -> None:
    federation = Federation(membership(6))
    openings, present = federation.until("unmask", {HONEST: "upload"})
    coordinator = federation.coordinator
    public = federation.membership.member(EVIL).public_key
    true = Reveal.decode(federation.members[EVIL].unmask(openings[EVIL], federation.updates[EVIL]), public)
    false = tuple((owner, share ^ 1) for owner, share in getattr(true, kind))
    with pytest.raises(CheatError) as refused:
        coordinator.accept_reveal(EVIL, replace(true, **{kind: false}).encode_signed(signing_key(EVIL)))  # type: ignore[arg-type]
    assert refused.value.culprit == EVIL
    for name in present:
        if name != EVIL:
            coordinator.accept_reveal(
                name, federation.members[name].unmask(openings[name], federation.updates[name])
            )
    assert np.array_equal(coordinator.open().vector, federation.expected(present))


def test_a_reveal_of_other_shares_than_those_asked_for_is_refused() -> None:
    federation = Federation(membership(5))
    openings, _ = federation.until("unmask")
    public = federation.membership.member(EVIL).public_key
    true = Reveal.decode(federation.members[EVIL].unmask(openings[EVIL], federation.updates[EVIL]), public)
    fewer = replace(true, self_shares=true.self_shares[1:])
    with pytest.raises(ShareError):
        federation.coordinator.accept_reveal(EVIL, fewer.encode_signed(signing_key(EVIL)))


def test_only_shares_of_the_agreed_kind_are_ever_revealed() -> None:
    """Fault 5: who died after its upload is counted, its self mask recovered, its pairwise key not; and the reverse."""
    federation = Federation(membership(6))
    openings, present = federation.until("unmask", {HONEST: "upload", "member-0004": "survivors"})
    for name in present:
        public = federation.membership.member(name).public_key
        reveal = Reveal.decode(
            federation.members[name].unmask(openings[name], federation.updates[name]), public
        )
        assert {owner for owner, _ in reveal.self_shares} == set(federation.names) - {HONEST}
        assert {owner for owner, _ in reveal.pair_shares} == {HONEST}


def upload_of(federation: Federation, deliveries: dict[str, bytes], name: str) -> bytes:
    return b"".join(federation.members[name].upload(deliveries[name], federation.updates[name]))


def test_an_upload_that_is_late_repeated_foreign_short_long_or_forged_leaves_the_sum_as_it_was() -> None:
    federation = Federation(membership(5))
    deliveries, _ = federation.until("upload", {"member-0004": "share"})
    coordinator = federation.coordinator
    true = upload_of(federation, deliveries, EVIL)
    lies: list[tuple[bytes, type[SecaggError]]] = [
        (true[:-1], MalformedError),
        (true[:100], MalformedError),
        (true + b"\0", MalformedError),
        (upload_of(federation, deliveries, HONEST), IdentityError),
        (true[:-1] + bytes([true[-1] ^ 1]), UploadSignatureError),
        (b"", MalformedError),
    ]
    for lie, refusal in lies:
        with pytest.raises(refusal):
            coordinator.accept_upload(EVIL, [lie])
    with pytest.raises(SurvivorError, match="not in U2"):
        coordinator.accept_upload("member-0004", [true])
    coordinator.accept_upload(EVIL, [true])
    with pytest.raises(OrderError, match="already"):
        coordinator.accept_upload(EVIL, [true])
    pending = coordinator.begin_upload("member-0000")
    pending.feed(upload_of(federation, deliveries, "member-0000")[:50])
    for name in (HONEST, "member-0002"):
        coordinator.accept_upload(name, [upload_of(federation, deliveries, name)])
    with pytest.raises(AbortedError):
        coordinator.close_uploads()
    with pytest.raises(OrderError, match="too late"):
        pending.feed(b"x")


def test_an_upload_in_any_chunking_is_accepted_and_one_that_stops_halfway_leaves_no_trace() -> None:
    federation = Federation(membership(5), quantiser=quantiser(SLICE_BYTES // 2 + 77))
    deliveries, present = federation.until("upload")
    coordinator = federation.coordinator
    half = upload_of(federation, deliveries, EVIL)

    def dies() -> Iterator[bytes]:
        yield half[: len(half) // 2]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        coordinator.accept_upload(EVIL, dies())
    for number, name in enumerate(n for n in present if n != EVIL):
        data, size = upload_of(federation, deliveries, name), (1 << 20, 1 << 16, 100_003, 31)[number]
        coordinator.accept_upload(name, (data[at : at + size] for at in range(0, len(data), size)))
    claim = coordinator.close_uploads()
    left = [name for name in present if name != EVIL]
    opened = federation.finish("survivors", claim, {EVIL: "upload"})
    assert opened.survivors == tuple(left)
    assert np.array_equal(opened.vector, federation.expected(left))


def test_uploads_in_progress_are_bounded_by_the_staging_buffers() -> None:
    federation = Federation(membership(5))
    federation.until("upload")
    first, _ = (
        federation.coordinator.begin_upload("member-0000"),
        federation.coordinator.begin_upload("member-0001"),
    )
    with pytest.raises(BusyError):
        federation.coordinator.begin_upload("member-0002")
    first.discard()
    federation.coordinator.begin_upload("member-0002")


class Booster(MemberSession):
    """Uploads a vector far outside what clipping allows."""

    def upload(
        self, delivery: bytes, quantised: Quantised, *, threads: int = 1
    ) -> Iterator[bytes | memoryview]:
        return super().upload(delivery, self.boosted(quantised), threads=threads)

    def unmask(self, opening: bytes, quantised: Quantised, *, sent: Sent = b"", threads: int = 1) -> bytes:
        return super().unmask(opening, self.boosted(quantised), sent=sent, threads=threads)

    @staticmethod
    def boosted(quantised: Quantised) -> Quantised:
        vector = quantised.vector.copy()
        vector[:-20] = 8000
        return replace(quantised, vector=vector)


class TwoFaced(Booster):
    """Uploads one vector and signs the digest of another."""

    def unmask(self, opening: bytes, quantised: Quantised, *, sent: Sent = b"", threads: int = 1) -> bytes:
        return MemberSession.unmask(self, opening, quantised, threads=threads)


def test_who_signs_a_digest_of_another_upload_than_it_sent_is_named_and_the_sum_is_not_used() -> None:
    federation = Federation(membership(5), member_types={EVIL: TwoFaced})
    with pytest.raises(CheatError, match="digest of another upload") as refused:
        federation.complete()
    assert refused.value.culprit == EVIL
    assert federation.coordinator.stage is Stage.ABORTED


def shorter_than(limit: float) -> Callable[[Totals, Lengths], None]:
    def admit(totals: Totals, lengths: Lengths) -> None:
        if euclidean_norm(totals.mean()) > limit:
            raise NormError("too long")

    return admit


def test_a_sum_longer_than_honest_members_could_make_is_not_used() -> None:
    for evil, refused in ((MemberSession, False), (Booster, True)):
        federation = Federation(membership(5), member_types={EVIL: evil})
        openings, present = federation.until("unmask")
        for name in present:
            federation.coordinator.accept_reveal(
                name, federation.members[name].unmask(openings[name], federation.updates[name])
            )
        if refused:
            with pytest.raises(NormError):
                federation.coordinator.open(admit=shorter_than(3.1))
            assert federation.coordinator.stage is Stage.ABORTED
        else:
            assert federation.coordinator.open(admit=shorter_than(3.1)).totals.weight == 2.5


def test_a_restarted_member_rejoins_before_the_roster_closes_and_fences_its_old_session() -> None:
    federation = Federation(membership(5))
    old = federation.members[HONEST]
    federation.coordinator.accept_advertisement(HONEST, old.advertise())
    federation.members[HONEST] = federation.member(HONEST)
    roster = federation.advertise(federation.names)
    with pytest.raises(RosterError):
        old.share(roster)
    opened = federation.finish("share", roster)
    assert np.array_equal(opened.vector, federation.expected(federation.names))


def test_a_retry_with_fresh_keys_and_the_same_stored_update_opens_the_same_sum() -> None:
    first = Federation(membership(5), seed=1)
    with pytest.raises(AbortedError):
        first.complete(dict.fromkeys(first.names[:3], "survivors"))
    stored = {name: Quantised.decode(one.encode()) for name, one in first.updates.items()}
    unsigned = first.names[:3]
    retry = Federation(membership(5), seed=2, attempt=1, journals=first.journals, updates=stored)
    for name in unsigned:
        retry.coordinator.accept_advertisement(name, retry.members[name].advertise())
    for name in first.names[3:]:
        with pytest.raises(ReplayError):
            retry.members[name].advertise()
    opened = retry.finish(
        "share", retry.coordinator.close_advertisements(), dict.fromkeys(first.names[3:], "advertise")
    )
    assert np.array_equal(opened.vector, first.expected(unsigned))


def test_no_two_attempts_of_a_member_share_a_key() -> None:
    seen: set[bytes] = set()
    for attempt in range(3):
        federation = Federation(membership(3), attempt=attempt)
        for name in federation.names:
            entry = Advertisement.decode(federation.members[name].advertise())
            fresh = {entry.exchange, entry.masking, entry.commitment, entry.nonce}
            assert len(fresh) == 4
            assert not fresh & seen
            seen |= fresh


def test_a_session_moved_to_another_process_between_all_phases_gives_the_same_sum() -> None:
    federation = Federation(membership(4))

    def move() -> None:
        for name, session in federation.members.items():
            snapshot = session.snapshot_with_secrets()
            federation.members[name] = federation.restored(name, snapshot, ("moved", name))

    message = None
    for phase in ("advertise", "share", "upload", "survivors", "unmask"):
        message = federation.step(phase, message, federation.names)
        move()
    assert isinstance(message, AggregateSum)
    assert np.array_equal(message.vector, federation.expected(federation.names))


def test_requests_repeated_after_a_broken_link_are_answered_with_the_same_bytes() -> None:
    federation = Federation(membership(4))
    roster, _ = federation.until("share")
    session = federation.members[HONEST]
    assert session.share(roster) == session.share(roster)
    deliveries = federation.share(roster, federation.names)
    first, second = (
        b"".join(session.upload(deliveries[HONEST], federation.updates[HONEST])) for _ in range(2)
    )
    assert first == second
    claim = federation.upload(deliveries, federation.names)
    assert session.survivors(claim) == session.survivors(claim)


def test_no_repr_shows_a_secret() -> None:
    federation = Federation(membership(3))
    federation.until("survivors")
    session = federation.members["member-0000"]
    state = session._state
    secrets = (state.exchange_key, state.pair_seed, state.self_seed, keys.self_key(state.self_seed, b"", "x"))
    shown = repr((session, state, federation.updates["member-0000"], session._masks()))
    for secret in secrets:
        assert secret.hex() not in shown
        assert repr(secret) not in shown
