"""A large cohort is mustered before it signs: a third may fall silent in any phase, and the sum of the others is
opened and shown to be theirs. And a coordinator gains nothing by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.secagg.federation import Federation, membership, quantiser
from tests.secagg.test_evidence import READER, Adder, own, shown

from sordino_privacy.secagg import (
    GENESIS,
    AbortedError,
    AggregateSum,
    CoordinatorSession,
    Evidence,
    EvidenceError,
    IdentityError,
    MalformedError,
    OrderError,
    QuorumError,
    Record,
    ReplayError,
    Step,
    SurvivorError,
    verify_record,
)
from sordino_privacy.secagg.coordinator import mustering
from sordino_privacy.secagg.coordinator.cohort import CohortShares
from sordino_privacy.secagg.coordinator.uploading import ClaimedSum
from sordino_privacy.secagg.muster import MOST_MUSTERS, SILENT_LIMIT, Draw, sketch_of, sounding
from sordino_privacy.secagg.survivors import Claim

MANY, THIRD = 12, 4
LATER = ("muster", "sound", "survivors", "unmask")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a coordinator musters is its own choice: here it does with twelve, of whom two may be silent."""
    monkeypatch.setattr(mustering, "SILENT_LIMIT", 2)
    monkeypatch.setattr(mustering, "MUSTERED_ABOVE", 6)


def many(members: int = MANY, **other: Any) -> Federation:
    return Federation(membership(members), quantiser=quantiser(30, members), **other)


def mustered(federation: Federation, claim: bytes, present: Sequence[str]) -> bytes:
    """Who is there says so; gives the draw."""
    federation.coordinator.begin_muster()
    for name in present:
        federation.coordinator.accept_presence(name, federation.members[name].muster(claim))
    return federation.coordinator.close_muster()


def sounded(federation: Federation, draw: bytes, present: Sequence[str]) -> bytes:
    for name in present:
        said = federation.members[name].sound(draw, federation.updates[name])
        federation.coordinator.accept_sounding(name, said)
    return federation.coordinator.close_soundings()


def complete(federation: Federation, gone: Sequence[str] = (), at: str = "") -> AggregateSum:
    """A whole attempt, as the strategy drives it; `gone` are not heard any more from the phase `at` on."""
    claim, present = federation.until(
        "survivors", dict.fromkeys(gone, at) if at in ("share", "upload") else None
    )
    coordinator = federation.coordinator

    def left(phase: str) -> list[str]:
        here = at in LATER and LATER.index(at) > LATER.index(phase)
        return [name for name in present if name in coordinator.awaiting() and (here or name not in gone)]

    while coordinator.must_muster:
        draw = mustered(federation, claim, left("muster"))
        claim = sounded(federation, draw, left("sound"))
    openings = federation.survivors(claim, left("survivors"))
    return federation.unmask(openings, left("unmask"))


@pytest.mark.parametrize("phase", ["share", "upload", *LATER])
def test_a_third_of_a_large_cohort_falls_silent_in_any_phase_and_the_sum_of_the_others_is_shown(
    phase: str,
) -> None:
    federation = many()
    gone = federation.names[-THIRD:]
    opened = complete(federation, gone, phase)
    counted = phase in ("survivors", "unmask")
    assert len(opened.survivors) == (MANY if counted else MANY - THIRD)
    assert set(gone).isdisjoint(opened.survivors) or counted
    assert opened.silent == ()
    assert np.array_equal(opened.vector, federation.expected(opened.survivors))
    for name in (READER, federation.names[MANY - THIRD - 1]):
        shown(federation, opened, name)
    # And to whoever was not there, by the record that its members signed.
    record = federation.coordinator.record(GENESIS, bytes(32))
    verified = verify_record(
        Record.decode(record), {federation.membership.charter_hash: federation.membership}
    )
    assert verified.survivors == opened.survivors
    uploads: dict[str, bytes] = {}
    verified.opened.require_sum(
        federation.membership, federation.context, opened.evidence, opened.vector, opened.carries, uploads
    )


def test_without_a_muster_more_are_silent_than_may_be_and_with_it_nobody_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    federation = many(60)
    opened = complete(federation, federation.names[-20:], "unmask")
    assert (len(opened.survivors), opened.silent) == (60, ())
    monkeypatch.setattr(mustering, "MUSTERED_ABOVE", 60)
    again = many(60, round=1)
    assert len(complete(again, again.names[-20:], "unmask").silent) == 20 > SILENT_LIMIT


def test_few_silent_ones_stay_in_the_sum_and_are_stood_in_for() -> None:
    federation = many()
    few = federation.names[-2:]
    opened = complete(federation, few, "sound")
    assert opened.survivors == tuple(federation.names)
    assert opened.silent == tuple(few)
    shown(federation, opened)
    with pytest.raises(EvidenceError, match="one sketch or one upload"):
        shown(federation, opened, uploads={})


def test_too_many_silent_ones_abort_the_attempt_and_nobody_has_signed() -> None:
    federation = many()
    with pytest.raises(AbortedError, match="SOUNDINGS"):
        complete(federation, federation.names[-5:], "sound")
    steps = {row.step for journal in federation.journals.values() for row in journal.rows}
    assert Step.SPENT not in steps


def test_a_small_cohort_is_not_mustered() -> None:
    federation = Federation(membership(6))
    federation.until("survivors")
    assert not federation.coordinator.must_muster


def test_lengths_are_told_at_the_muster_too() -> None:
    members = replace(membership(MANY), checks_lengths=True)
    federation = Federation(members, quantiser=quantiser(300, MANY))
    opened = complete(federation, federation.names[-THIRD:], "sound")
    assert set(opened.lengths.given) == set(federation.names[:-THIRD])
    assert float(np.abs(opened.lengths.rest).max()) < 1e-9


# What a member refuses


def test_a_muster_binds_to_nothing() -> None:
    """Another claim may follow, and only what is signed is written down."""
    federation = many()
    claim, present = federation.until("survivors")
    session = federation.members[READER]
    session.muster(claim)
    assert Step.SPENT not in {row.step for row in federation.journals[READER].rows}
    draw = mustered(federation, claim, present)
    smaller = sounded(federation, draw, present[:8])
    assert Claim.decode(smaller).survivors == tuple(present[:8])
    session.muster(smaller)
    session.survivors(smaller)
    assert Step.SPENT in {row.step for row in federation.journals[READER].rows}


def test_every_claim_has_a_nonce_of_its_own_and_a_repeated_request_the_same_answer() -> None:
    federation = many()
    claim, _ = federation.until("survivors")
    session = federation.members[READER]
    first = session.muster(claim)
    assert session.muster(claim) == first
    other = replace(Claim.decode(claim), total_hash=bytes(32)).encode()
    assert session.muster(other) != first
    draw = Draw(roster_hash=Claim.decode(claim).roster_hash, nonces=((READER, session._state.nonce),))
    said = session.sound(draw.encode(), federation.updates[READER])
    assert session.sound(draw.encode(), federation.updates[READER]) == said


def test_a_member_is_mustered_no_more_often_than_it_may_be() -> None:
    federation = many()
    claim, _ = federation.until("survivors")
    session = federation.members[READER]
    for turn in range(MOST_MUSTERS):
        session.muster(replace(Claim.decode(claim), total_hash=bytes([turn]) * 32).encode())
    with pytest.raises(OrderError, match="mustered 4 times"):
        session.muster(claim)


@pytest.mark.parametrize(
    ("refusal", "lie"),
    [
        (QuorumError, lambda draw: replace(draw, nonces=draw.nonces[1:])),
        (QuorumError, lambda draw: replace(draw, nonces=((READER, bytes(32)), *draw.nonces[1:]))),
        (SurvivorError, lambda draw: replace(draw, nonces=(*draw.nonces, ("stranger", bytes(32))))),
        (ReplayError, lambda draw: replace(draw, roster_hash=bytes(32))),
        (MalformedError, lambda draw: replace(draw, nonces=(*draw.nonces, draw.nonces[-1]))),
    ],
)
def test_a_draw_that_is_not_this_musters_is_refused_and_the_session_ends(
    refusal: type[Exception], lie: Any
) -> None:
    federation = many()
    claim, present = federation.until("survivors")
    draw = Draw.decode(mustered(federation, claim, present))
    session = federation.members[READER]
    with pytest.raises(refusal):
        session.sound(lie(draw).encode(), federation.updates[READER])
    assert not session._state.self_seed


def test_nothing_is_said_of_an_upload_before_a_muster_or_after_a_signature() -> None:
    federation = many()
    claim, _ = federation.until("survivors")
    draw = Draw(roster_hash=Claim.decode(claim).roster_hash, nonces=()).encode()
    session = federation.members[READER]
    with pytest.raises(OrderError):
        session.sound(draw, federation.updates[READER])
    session.survivors(claim)
    with pytest.raises(OrderError):
        session.muster(claim)
    with pytest.raises(OrderError):
        session.sound(draw, federation.updates[READER])


# What a coordinator cannot gain


class Remover(Adder):
    """The same when it leaves the silent out: their uploads go, and something comes in their place."""

    def close_uploads(self) -> bytes:
        return CoordinatorSession.close_uploads(self)

    def _claim_of(self, shares: CohortShares, u3: set[str]) -> ClaimedSum:
        if len(u3) < MANY:
            self._known_intake().total.add(own(self, range(3, 5), 1))
        return super()._claim_of(shares, u3)


@pytest.mark.parametrize("evil", [Adder, Remover])
def test_a_mustered_sum_with_a_vector_of_the_coordinators_own_is_found_out(
    evil: type[CoordinatorSession],
) -> None:
    federation = many(coordinator_type=evil)
    opened = complete(federation, federation.names[-THIRD:], "sound")
    with pytest.raises(EvidenceError, match="not the sum of what was uploaded"):
        shown(federation, opened)


def test_a_challenge_that_leaves_out_whoever_signed_is_no_challenge() -> None:
    """Or the coordinator could choose all nonces, after it knew what sum would pass."""
    federation = many()
    opened = complete(federation)
    true = Evidence.decode(opened.evidence)
    assert len(true.draw) == MANY
    for draw in (true.draw[1:], ((READER, bytes(32)), *true.draw[1:])):
        with pytest.raises(EvidenceError, match="leaves out the nonce"):
            shown(federation, opened, evidence=replace(true, draw=draw).encode())
    with pytest.raises(
        EvidenceError
    ):  # of the assents alone, which is another challenge than the sketches have
        shown(federation, opened, evidence=replace(true, draw=(*true.draw, ("zzz", bytes(32)))).encode())


def test_what_was_said_at_a_muster_is_not_said_otherwise_later_and_nobody_speaks_for_another() -> None:
    federation = many()
    claim, present = federation.until("survivors")
    draw = mustered(federation, claim, present)
    coordinator, first, second = federation.coordinator, present[0], present[1]
    said = federation.members[first].sound(draw, federation.updates[first])
    with pytest.raises(IdentityError):
        coordinator.accept_sounding(second, said)
    with pytest.raises(IdentityError):
        coordinator.accept_sounding(first, sounding(replace(sketch_of(said), rows=(0, 0, 0, 0))))
    with pytest.raises(IdentityError):
        coordinator.accept_sounding("member-0002", said)
    coordinator.accept_sounding(first, said)
