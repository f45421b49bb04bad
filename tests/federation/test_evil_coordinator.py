"""A coordinator that owns the true key lies to a real member: what it gets, and what stays in the member's folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.federation import inprocess
from tests.federation.evil_coordinator import EvilCoordinator, folder_hash
from tests.federation.hub import VICTIM, found_many, refused_as
from tests.federation.proposed import offer_of

from sordino_client.round.participation import Consent
from sordino_platform.charter import FloorTerms
from sordino_platform.flower.phases import HELLO, Fields, Phase, pack
from sordino_platform.offer import COUNTS, Offer, Unready
from sordino_platform.provenance import Provenance
from sordino_platform.tenure import SignedTenure
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.secagg import Step, sum_digest
from sordino_privacy.secagg.survivors import Opening


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("evil") / "federation"
    found_many(folder, 5, organisations=5, floors=FloorTerms(cohort=4))
    return folder


@pytest.fixture
def evil(founded: Path, tmp_path: Path) -> Iterator[EvilCoordinator]:
    shutil.copytree(founded, tmp_path / "federation")
    coordinator = EvilCoordinator(tmp_path / "federation")
    yield coordinator
    coordinator.close()


def whole_round(evil: EvilCoordinator) -> None:
    """A true round with the victim, up to the release."""
    attempt = evil.begin()
    assert not evil.propose().has_error()
    while (reply := attempt.advance()) is not None:
        assert not reply.has_error(), reply.error.reason


def others_round(evil: EvilCoordinator) -> None:
    """A true round without the victim."""
    attempt = evil.begin()
    attempt.victim = b""
    for _ in range(4):
        attempt.advance()


def test_a_true_round_is_taken_over_and_its_release_served(evil: EvilCoordinator) -> None:
    whole_round(evil)
    assert Fields(evil.result()).integer("release") == 1
    assert evil.member.newest_release() == 1
    assert (evil.home / "completion" / "serving" / "CURRENT").read_text().startswith("release-000001")


def lie_no_round(evil: EvilCoordinator) -> Provenance:
    vector = evil.poison()
    return Provenance(manifests=(evil.signed(vector),), model=vector)


def lie_rollback(evil: EvilCoordinator) -> Provenance:
    vector = evil.poison()
    return Provenance(manifests=(evil.signed(vector, restores=0),), model=vector)


def lie_round(evil: EvilCoordinator) -> Provenance:
    vector, attempt = evil.poison(), evil.attempt
    assert attempt is not None
    names = tuple(sorted(member.name for member in evil.federation.charter.members))
    manifest = evil.signed(vector, run=evil.federation.run, round=attempt.context.round, members=names)
    return Provenance(manifests=(manifest,), model=vector)


@pytest.mark.parametrize("lie", [lie_no_round, lie_rollback, lie_round])
@pytest.mark.parametrize("how", ["proposal", "result after TRAIN"])
@pytest.mark.parametrize("willing", ["willing", "paused", "withdrawn"])
def test_a_release_that_no_round_made_is_refused_and_nothing_of_it_stays(
    evil: EvilCoordinator, lie: Callable[[EvilCoordinator], Provenance], how: str, willing: str
) -> None:
    whole_round(evil)
    evil.result()
    evil.begin()
    if how == "result after TRAIN":
        assert not evil.propose().has_error()
    wish = evil.member.participation
    if willing == "paused":
        wish.pause()
    elif willing == "withdrawn":
        wish.admit(evil.federation.run, evil.round, evil.federation.plan.digest(), epsilon_after=1.0)
        wish.withdraw()
    before = folder_hash(evil.home)
    shown = lie(evil)
    if how == "proposal":
        assert shown.model is not None
        reply = evil.propose(provenance=shown, context=evil.poisoned_context(shown.model))
        assert reply.has_error()
    else:
        evil.result(shown)
    assert folder_hash(evil.home) == before
    assert evil.member.newest_release() == 1


@pytest.mark.parametrize("spoil", ["record", "sum", "plan", "members", "evidence", "moments"])
def test_a_result_that_differs_in_anything_from_what_its_members_signed_is_refused(
    evil: EvilCoordinator, spoil: str
) -> None:
    whole_round(evil)
    true = evil.federation.records.provenance(after=0)
    assert true is not None
    assert true.opened is not None
    opened = true.opened
    match spoil:
        case "record":
            data = bytearray(opened.record)
            data[-70] ^= 1  # in the sum's hash, the coordinator's own word
            false = replace(true, opened=replace(opened, record=bytes(data)))
        case "sum":
            other = opened.sum.copy()
            other[0] += 1
            record = opened.record.replace(sum_digest(opened.sum), sum_digest(other))
            false = replace(true, opened=replace(opened, sum=other, record=record))
        case "plan":
            assert isinstance(opened.plan, TrainingPlan)
            plan = replace(opened.plan, learning_rate=opened.plan.learning_rate * 2)
            false = replace(true, opened=replace(opened, plan=plan))
        case "members":
            manifest = evil.federation.releases.manifest(1)
            names = manifest.members[:-1]
            false = replace(
                true,
                manifests=(
                    evil.signed(
                        evil.federation.weights(),
                        number=1,
                        parent=manifest.parent,
                        round=1,
                        members=names,
                        run=manifest.run,
                    ),
                ),
            )
        case "evidence":
            false = replace(true, opened=replace(opened, carries=opened.carries + 1))
        case _:
            false = replace(true, opened=replace(opened, moments=(evil.federation.weights(),)))
    before = folder_hash(evil.home)
    assert evil.result(false).has_error()
    assert folder_hash(evil.home) == before
    assert not evil.result().has_error(), "the true one is taken"


def test_a_gap_of_any_length_is_closed_by_the_newest_round_and_the_model_that_its_members_vouch_for(
    evil: EvilCoordinator,
) -> None:
    for _ in range(5):
        others_round(evil)
    evil.begin()
    reply = evil.propose()
    assert not reply.has_error(), reply.error.reason
    assert evil.member.newest_release() == 5
    assert np.array_equal(evil.member.releases.vector(), evil.federation.weights())


def test_a_gap_with_another_model_than_the_members_vouch_for_is_refused(evil: EvilCoordinator) -> None:
    for _ in range(3):
        others_round(evil)
    evil.begin()
    true = evil.federation.records.provenance(after=-1)
    assert true is not None
    before = folder_hash(evil.home)
    assert evil.propose(provenance=replace(true, model=evil.poison())).has_error()
    assert evil.propose(provenance=replace(true, model=None)).has_error()
    assert evil.propose(provenance=replace(true, opened=None)).has_error()
    assert folder_hash(evil.home) == before


def test_a_rollback_is_followed_by_who_holds_the_model_and_by_who_is_told_who_vouches_for_it(
    evil: EvilCoordinator,
) -> None:
    for _ in range(3):
        others_round(evil)
    evil.federation.roll_back(1)
    evil.truth.add(evil.federation.model_hash())
    evil.begin()
    assert not evil.propose().has_error()
    assert evil.member.newest_release() == 4
    assert np.array_equal(evil.member.releases.vector(), evil.federation.weights())


def test_consent_is_to_one_round_under_one_plan_once(evil: EvilCoordinator) -> None:
    federation, wish = evil.federation, evil.member.participation
    wish.mode = "when_asked"
    evil.begin()
    offer = offer_of(federation, round=evil.round)
    assert refused_as(evil.propose()) == "unwilling"
    assert not evil.ask(HELLO, offer.pack()).has_error()
    wish.agree(Consent(offer=offer.id, round=offer.round, epsilon_after=8.0))
    assert refused_as(evil.propose(**evil.other_plan())) == "unwilling"
    assert not evil.member.ledger.reservations()
    wish.agree(Consent(offer=offer.id, round=offer.round, epsilon_after=8.0))
    inprocess.store_update(evil.member, federation, evil.round, 0.001)
    assert not evil.propose().has_error()
    evil.begin()
    assert refused_as(evil.propose()) == "unwilling"
    assert {(held.run, held.round) for held in evil.member.ledger.reservations()} == {(federation.run, 1)}


def test_an_epoch_that_waits_leaves_nothing_in_force_and_is_where_its_owner_finds_it(
    evil: EvilCoordinator,
) -> None:
    evil.begin()
    charter, before = evil.member.identity.charter, evil.member.ledger.head()
    assert refused_as(evil.propose(charters=(evil.replacing_epoch(),))) == "epoch"
    assert evil.member.identity.charter == evil.member.charter == charter
    assert evil.member.ledger.head() == before
    assert [path.name for path in (evil.home / "waiting").iterdir()] == ["charter-000002.json"]


def test_rounds_of_a_member_that_pauses_are_not_kept(evil: EvilCoordinator) -> None:
    evil.begin()
    assert not evil.propose().has_error()
    assert any((evil.home / "round").iterdir())
    evil.member.participation.pause()
    assert not any((evil.home / "round").iterdir())
    inprocess.store_update(evil.member, evil.federation, 9, 0.001)
    evil.restart()
    assert not any((evil.home / "round").iterdir())


def test_a_new_epoch_ends_the_round_at_this_member_before_its_next_phase(evil: EvilCoordinator) -> None:
    attempt = evil.begin()
    assert not evil.propose().has_error()
    evil.member.identity.charters.accept(evil.replacing_epoch())
    reply = attempt.advance()
    assert reply is not None
    assert refused_as(reply) == "epoch"
    entries = evil.member.ledger.entries("crowd", evil.federation.run, evil.round)
    assert {entry.step for entry in entries} == {Step.ADVERTISED}


def offered_by(evil: EvilCoordinator, tenure: bytes) -> str:
    """What a member says to an offer under this tenure."""
    federation = evil.federation
    counts: dict[str, Any] = dict.fromkeys(COUNTS, 4)
    offer = Offer(run=federation.run, plan=federation.plan, tenure=tenure, **counts)
    reply = evil.ask(HELLO, offer.pack())
    assert not reply.has_error()
    return str(Fields(reply).text("unready"))


def tenure_after(evil: EvilCoordinator, generation: int) -> bytes:
    signed = SignedTenure.begin(
        federation=evil.federation.charter.federation,
        after=generation,
        key=evil.federation.identity.signing_key,
    )
    return signed.to_bytes()


def test_a_replaced_machine_that_proposes_without_an_offer_is_refused_and_nothing_of_it_stays(
    evil: EvilCoordinator,
) -> None:
    whole_round(evil)
    evil.result()
    first = tenure_after(evil, 0)
    offered_by(evil, first)
    evil.begin()
    before = folder_hash(evil.home)
    for tenure in (b"", tenure_after(evil, 0)):  # the machine before it, and a rival of the same number
        assert refused_as(evil.propose(tenure=tenure)) == "superseded"
    stranger = SignedTenure.begin(
        federation=evil.federation.charter.federation, after=8, key=evil.member.identity.signing_key
    )
    assert refused_as(evil.propose(tenure=stranger.to_bytes())) == "local"
    assert folder_hash(evil.home) == before
    assert refused_as(evil.propose(tenure=first)) == "answered"


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_machine_that_is_replaced_within_a_round_gets_no_further_in_it(
    evil: EvilCoordinator, stage: int
) -> None:
    attempt = evil.begin()
    assert refused_as(evil.propose()) == "answered"
    for _ in range(stage):
        reply = attempt.advance()
        assert reply is not None
        assert not reply.has_error()
    assert offered_by(evil, tenure_after(evil, 0)) != Unready.SUPERSEDED
    reply = attempt.advance()
    assert reply is not None
    assert refused_as(reply) == "superseded"


def test_a_later_tenure_in_a_proposal_is_kept_only_where_the_proposal_is_followed(
    evil: EvilCoordinator,
) -> None:
    evil.begin()
    later = tenure_after(evil, 0)
    poisoned = evil.poisoned_context(evil.poison())
    assert refused_as(evil.propose(tenure=later, context=poisoned)) == "model"
    assert not (evil.home / "tenure.json").exists()
    assert refused_as(evil.propose(tenure=later)) == "answered"
    assert (evil.home / "tenure.json").read_bytes() == later
    assert offered_by(evil, b"") == Unready.SUPERSEDED


def test_a_runner_that_kept_the_session_from_before_a_false_opening_gives_the_coordinator_no_second_try(
    evil: EvilCoordinator,
) -> None:
    """A SuperNode keeps what its app left, and gives it to the next process when one was killed, or to two at once:
    of many signatures each try would look at other ones."""
    attempt = evil.begin()
    assert not evil.propose().has_error()
    for _ in range(3):
        reply = attempt.advance()
        assert reply is not None
        assert not reply.has_error()
    truth = attempt.session.close_survivors()[VICTIM]
    opening = Opening.decode(truth)
    lie = replace(
        opening,
        assents=tuple(
            each if each.sender == VICTIM else replace(each, signature=bytes(64)) for each in opening.assents
        ),
    )
    before = dict(evil._state.state)
    assert evil.ask(Phase.UNMASK, pack({"opening": lie.encode()})).has_error()
    for asked in (lie.encode(), truth):
        evil._state.state.clear()
        evil._state.state.update(before)
        assert evil.ask(Phase.UNMASK, pack({"opening": asked})).has_error()
    evil.restart()
    evil._state.state.update(before)
    assert evil.ask(Phase.UNMASK, pack({"opening": truth})).has_error()
    context = attempt.context
    steps = [row.step for row in evil.member.ledger.entries(context.federation, context.run, context.round)]
    assert steps == [Step.ADVERTISED, Step.UPLOADED, Step.SPENT, Step.REVEALED]
