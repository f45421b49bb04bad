"""A published sum is shown to be the sum of what the survivors uploaded, to every member, against a coordinator that
publishes another; and where the charter asks for it, no survivor can hide how long its own update is."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.secagg.federation import Federation, membership, quantiser, signing_key

from sordino_privacy.secagg import (
    AggregateSum,
    CoordinatorSession,
    Evidence,
    EvidenceError,
    IdentityError,
    Lengths,
    MemberSession,
    PerMember,
    Quantised,
    QuorumError,
    sketched_length,
)
from sordino_privacy.secagg.coordinator.opening import RevealPhase
from sordino_privacy.secagg.encoding import digest
from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.secagg.member.sent import Sent
from sordino_privacy.secagg.sketch import CHUNK, PROJECTIONS, Sketch, length_sketch, upload_digest
from sordino_privacy.secagg.survivors import Opening
from sordino_privacy.secagg.total import Total

READER, LIAR = "member-0000", "member-0003"


def shown(federation: Federation, opened: AggregateSum, name: str = READER, **other: Any) -> Lengths:
    """What `name` makes of the published sum; `other` replaces parts of what the coordinator sends it."""
    uploads = {silent: federation.coordinator.upload_of(silent) for silent in opened.silent}
    said = {
        "evidence": opened.evidence,
        "vector": opened.vector,
        "carries": opened.carries,
        "uploads": uploads,
    } | other
    return federation.members[name].opened.require_sum(federation.membership, federation.context, **said)


@pytest.mark.parametrize("cohort_limit", [8, 80])
@pytest.mark.parametrize("phase", ["never", "share", "upload", "survivors", "unmask"])
def test_an_opened_sum_is_shown_to_every_member_that_revealed_whoever_went_silent_and_when(
    phase: str, cohort_limit: int
) -> None:
    federation = Federation(membership(6), quantiser=quantiser(40, cohort_limit))
    opened = federation.complete({"member-0005": phase})
    assert opened.silent == (("member-0005",) if phase in ("survivors", "unmask") else ())
    assert np.array_equal(opened.vector, federation.expected(opened.survivors))
    for name in federation.names[:5]:
        assert federation.members[name].opened.survivors == opened.survivors
        assert shown(federation, opened, name).whole.size == 0


@pytest.fixture(scope="module")
def done() -> tuple[Federation, AggregateSum]:
    federation = Federation(membership(5))
    return federation, federation.complete({"member-0004": "unmask"})


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_sum_that_differs_anywhere_is_refused(
    done: tuple[Federation, AggregateSum], data: st.DataObject
) -> None:
    federation, opened = done
    places = data.draw(st.lists(st.integers(0, len(opened.vector) - 1), min_size=1, max_size=3, unique=True))
    vector, carries = opened.vector.copy(), opened.carries.copy()
    for place in places:
        # Half the ring twice over is what a check modulo the ring would let through.
        added = data.draw(st.sampled_from([1, 1 << 15, (1 << 16) - 1]))
        vector[place : place + 1] += np.uint16(added)
        carries[place] += data.draw(st.sampled_from([0, 1]))
    with pytest.raises(EvidenceError):
        shown(federation, opened, vector=vector, carries=carries)


def test_evidence_that_leaves_out_alters_or_adds_anything_is_refused(
    done: tuple[Federation, AggregateSum],
) -> None:
    federation, opened = done
    true = Evidence.decode(opened.evidence)
    first = true.sketches[0]
    upload = federation.coordinator.upload_of(first.sender)
    lies: list[tuple[str, dict[str, Any]]] = [
        ("one sketch", {"evidence": replace(true, sketches=true.sketches[1:]).encode()}),
        ("one sketch", {"uploads": {}}),
        ("is not the one that it signed", {"uploads": {"member-0004": upload}}),
        ("exactly the seeds", {"evidence": replace(true, self_seeds=true.self_seeds[1:]).encode()}),
        (
            "committed",
            {
                "evidence": replace(
                    true, self_seeds=(("member-0000", bytes(32)), *true.self_seeds[1:])
                ).encode()
            },
        ),
        (
            "not signed",
            {
                "evidence": replace(
                    true, sketches=(replace(first, rows=(0, 0, 0, 0)), *true.sketches[1:])
                ).encode()
            },
        ),
        ("another attempt", {"evidence": replace(true, roster_hash=bytes(32)).encode()}),
        ("another length", {"vector": opened.vector[:-1]}),
        ("malformed|truncated|follow", {"evidence": opened.evidence + b"\0"}),
    ]
    for reason, lie in lies:
        with pytest.raises(EvidenceError, match=reason):
            shown(federation, opened, **lie)
    # The upload in place of a sketch says as much as the sketch does: nothing is refused that is true.
    fewer = replace(true, sketches=true.sketches[1:]).encode()
    uploads = {name: federation.coordinator.upload_of(name) for name in (first.sender, "member-0004")}
    shown(federation, opened, evidence=fewer, uploads=uploads)


def own(session: CoordinatorSession, places: range, value: int) -> RingVector:
    """A vector of the coordinator's own, which it adds to the sum."""
    vector = np.zeros(session.context.dimension, session.context.quantiser.dtype)
    vector[list(places)] = value
    return vector


class Adder(CoordinatorSession):
    """Adds a vector of its own to the sum before it commits to it: all that follows is consistent."""

    def close_uploads(self) -> bytes:
        self._known_intake().total.add(own(self, range(7), 5))
        return super().close_uploads()

    def _require_digests(self, phase: Any, total: Any, threads: int) -> None:
        """It does not mind."""


def test_a_coordinator_that_commits_to_a_sum_with_a_vector_of_its_own_is_found_out_by_every_member() -> None:
    federation = Federation(membership(5), coordinator_type=Adder)
    opened = federation.complete()
    assert not np.array_equal(opened.vector, federation.expected(opened.survivors))
    for name in federation.names:
        with pytest.raises(EvidenceError, match="not the sum of what was uploaded"):
            shown(federation, opened, name)


class Divider(CoordinatorSession):
    """Gives two halves of the federation two challenges, by leaving assents out for one of them."""

    def close_survivors(self) -> PerMember:
        messages = dict(super().close_survivors())
        for name in (READER, "member-0001"):
            asked = Opening.decode(messages[name])
            messages[name] = replace(asked, assents=asked.assents[:4]).encode()
        return PerMember(messages, b"", messages.__getitem__)


def test_a_coordinator_that_gives_members_different_challenges_gets_sketches_that_do_not_fit_together() -> (
    None
):
    federation = Federation(membership(5), coordinator_type=Divider)
    openings, present = federation.until("unmask")
    refused = []
    for name in present:
        reveal = federation.members[name].unmask(openings[name], federation.updates[name])
        try:
            federation.coordinator.accept_reveal(name, reveal)
        except IdentityError:
            refused.append(name)
    assert refused == [READER, "member-0001"]


def test_a_challenge_without_this_members_own_nonce_is_refused() -> None:
    """Whoever knew all nonces in advance could look for a sum that passes."""
    federation = Federation(membership(5))
    openings, _ = federation.until("unmask")
    asked = Opening.decode(openings[READER])
    assert asked.assents[0].sender == READER
    with pytest.raises(QuorumError, match="own assent is missing"):
        federation.members[READER].unmask(
            replace(asked, assents=asked.assents[1:]).encode(), federation.updates[READER]
        )


def test_no_two_attempts_have_one_challenge() -> None:
    seeds = set()
    for seed in range(3):
        federation = Federation(membership(3), seed=seed)
        federation.until("unmask")
        seeds.add(federation.coordinator._in(RevealPhase).agreed.challenge)
    assert len(seeds) == 3


# Lengths


def long_federation(**types: type[MemberSession]) -> Federation:
    members = replace(membership(5), checks_lengths=True)
    return Federation(members, quantiser=quantiser(4000, 8), member_types=types)


def stretched(quantised: Quantised, factor: int) -> Quantised:
    vector = quantised.vector.copy()
    vector[:4000] *= np.uint16(factor)
    return replace(quantised, vector=vector)


class Stretcher(MemberSession):
    """Uploads four times its update, and owns up to it."""

    def upload(self, delivery: bytes, quantised: Quantised, *, threads: int = 1) -> Any:
        return super().upload(delivery, stretched(quantised, 4), threads=threads)

    def unmask(self, opening: bytes, quantised: Quantised, *, sent: Sent = b"", threads: int = 1) -> bytes:
        return super().unmask(opening, stretched(quantised, 4), sent=sent, threads=threads)


class Denier(Stretcher):
    """The same, with a true digest of its upload and a sketch of what it should have sent."""

    def _sketch(self, quantised: Quantised, sent: Sent, seed: bytes, threads: int) -> Sketch:
        true = super()._sketch(quantised, sent, seed, threads)
        quarter = tuple(value / 4 for value in true.length)
        key, roster = signing_key(LIAR), self._known_roster().hash
        return Sketch.signed(key, roster, seed, LIAR, true.rows, quarter)


def test_sketches_tell_every_length_to_everyone_and_a_stretched_update_stands_out() -> None:
    federation = long_federation(**{LIAR: Stretcher})
    opened = federation.complete()
    lengths = shown(federation, opened)
    told = {name: sketched_length(projections) for name, projections in lengths.given.items()}
    scale = np.concatenate([np.full(g.length, g.range) for g in federation.quantiser.groups])
    for name, length in told.items():
        integers = federation.updates[name].vector[:4000].view(np.int16)
        true = float(np.linalg.norm(integers * scale / federation.quantiser.levels))
        assert length == pytest.approx(true * (4 if name == LIAR else 1), rel=0.3)
    assert sketched_length(lengths.rest) < 1e-6 * told[LIAR]


def test_who_denies_its_length_leaves_a_rest_that_nobody_owned_up_to() -> None:
    federation = long_federation(**{LIAR: Denier})
    lengths = shown(federation, federation.complete())
    told = {name: sketched_length(projections) for name, projections in lengths.given.items()}
    assert max(told.values()) < 2 * min(told.values())
    assert sketched_length(lengths.rest) > 2 * min(told.values())


def test_a_silent_survivors_length_is_the_rest() -> None:
    federation = long_federation()
    lengths = shown(federation, federation.complete({"member-0004": "unmask"}))
    assert lengths.silent == ("member-0004",)
    others = [sketched_length(projections) for projections in lengths.given.values()]
    assert sketched_length(lengths.rest) == pytest.approx(np.mean(others), rel=0.4)


def test_a_charter_that_asks_for_no_lengths_gets_none_and_refuses_them() -> None:
    federation = Federation(membership(3))
    opened = federation.complete()
    assert shown(federation, opened).given == {}
    sketch = Evidence.decode(opened.evidence).sketches[0]
    assert sketch.length == ()
    with pytest.raises(Exception, match="another shape"):
        sketch.verify(replace(federation.membership, checks_lengths=True), bytes(32), bytes(32))


def test_a_sketch_is_unbiased_and_as_narrow_as_a_chi_square_of_128() -> None:
    shape = quantiser(6000, 8)
    random = np.random.default_rng(4)
    vector = np.zeros(shape.length, shape.dtype)
    vector[:6000] = random.integers(-900, 900, 6000).astype(np.int16).view(np.uint16)
    scale = np.concatenate([np.full(g.length, g.range / shape.levels) for g in shape.groups])
    true = float(np.square(vector[:6000].view(np.int16) * scale).sum())
    told = np.array([np.square(length_sketch(vector, shape, bytes([n]) * 32)).sum() / 4 for n in range(200)])
    assert told.mean() / true == pytest.approx(1, abs=4 * np.sqrt(2 / PROJECTIONS / 200))
    assert told.std() / true == pytest.approx(np.sqrt(2 / PROJECTIONS), rel=0.25)


def test_digests_add_up_exactly_at_the_largest_values_in_any_pieces() -> None:
    random = np.random.default_rng(8)
    ring = [random.integers(0, 1 << 32, 70_001, dtype=np.uint64).astype("<u4") for _ in range(3)]
    ring[0][:] = 0xFFFFFFFF
    total = np.sum([one.astype("<u8") for one in ring], axis=0)
    seed = bytes(32)
    whole = [upload_digest([one], seed) for one in ring]
    added = Total.nothing(70_001, np.dtype("<u4"), np.dtype("u1"))
    for one in ring:
        added.add(one)
    assert np.array_equal(added.ring.astype("<u8") + (added.carries.astype("<u8") << np.uint64(32)), total)
    summed = tuple(map(sum, zip(*whole, strict=True)))
    assert added.rows(seed) == added.rows(seed, threads=3) == summed
    assert added.digest() == digest("total", sha256(total.astype("<u8").tobytes()).digest())
    added.subtract(ring[0])
    assert added.rows(seed, threads=2) == tuple(map(sum, zip(*whole[1:], strict=True)))
    assert upload_digest([ring[1][:CHUNK], ring[1][CHUNK:]], seed) == whole[1]
