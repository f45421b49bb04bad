"""Whole rounds through Flower's app objects: sums, releases, dropouts at every phase, and what members refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Error, Message
from tests.federation import inprocess
from typer.testing import CliRunner

from sordino_coordinator.attempt import attempt_context
from sordino_coordinator.commands import app as coordinator_cli
from sordino_coordinator.federation import Federation
from sordino_coordinator.metrics import Dropped
from sordino_coordinator.ongoing import OngoingRound
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.architecture import Vector
from sordino_platform.charter import ModelTerms
from sordino_platform.flower.codec import decode_message
from sordino_platform.flower.phases import Phase
from sordino_platform.founding_model import founding_parameters
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore
from sordino_privacy.errors import DataError, UsageError
from sordino_privacy.secagg import RoundContext, SecaggError, Step, verify_transcript


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("founded") / "federation"
    inprocess.found_in(folder)
    return folder


def run_round(place: Path, absent: set[tuple[Phase, str]], *, attempts: int = 1) -> Federation:
    """One round with constant updates 0.001 * (1 + index); members in `absent` fall silent at that phase."""
    federation = Federation.open(place / "coordinator")
    federation.desk.defaults = federation.settings.model_copy(update={"attempts": attempts})
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        grid.absent = {(phase.message_type, name) for phase, name in absent}
        for index, member in enumerate(members.values()):
            inprocess.store_update(member, federation, 1, 0.001 * (1 + index))
        SecureFedAvg(federation).one_round(grid)
    return federation


def set_streams(grid: Any, streams: bool) -> Any:
    grid.streams = streams
    return grid


def change(federation: Federation) -> np.ndarray:
    """What the round's release changed, per coordinate."""
    releases = federation.releases
    return releases.vector(1) - releases.vector(0)


@pytest.mark.parametrize("streams", [True, False])
def test_a_round_releases_the_mean_of_all_updates(
    place: Path, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether uploads are masked while they are sent, as in the agent, or whole, as under Flower's own runners."""
    grid = inprocess.InProcessGrid
    monkeypatch.setattr(
        inprocess, "InProcessGrid", lambda *args, **kw: set_streams(grid(*args, **kw), streams)
    )
    federation = run_round(place, set())
    assert federation.rounds.rounds()[0].outcome is Outcome.COMPLETED
    np.testing.assert_allclose(change(federation), 0.003, atol=2e-4)


@pytest.mark.parametrize("phase", [Phase.SHARE, Phase.UPLOAD, Phase.SURVIVORS, Phase.UNMASK])
def test_a_member_that_falls_silent_is_left_out_or_counted_as_the_protocol_says(
    place: Path, phase: Phase
) -> None:
    federation = run_round(place, {(phase, "elm")})
    row = federation.rounds.rounds()[0]
    assert row.outcome is Outcome.COMPLETED
    assert row.dropped == {"elm": "timeout"}
    # Whoever has uploaded is in the sum, even if it dies afterwards; whoever has not is not.
    counted = phase in (Phase.SURVIVORS, Phase.UNMASK)
    assert ("elm" in row.members) is counted
    np.testing.assert_allclose(change(federation), 0.003 if counted else 0.0025, atol=2e-4)


def test_too_many_silent_members_void_the_round_and_keep_the_model(place: Path) -> None:
    federation = run_round(place, {(Phase.UPLOAD, "elm"), (Phase.UPLOAD, "cedar")})
    row = federation.rounds.rounds()[0]
    assert row.outcome is Outcome.ABORTED_DROPOUTS
    assert "UPLOADS" in row.reason
    assert federation.releases.head().number == 0


@pytest.mark.parametrize("streams", [True, False])
def test_a_member_keeps_what_it_sent_until_it_has_said_what_that_was(place: Path, streams: bool) -> None:
    federation, there = Federation.open(place / "coordinator"), dict[str, set[str]]()
    with inprocess.opened(place) as members:
        grid = set_streams(inprocess.InProcessGrid(members, run=7), streams)
        for member in members.values():
            inprocess.store_update(member, federation, 1, 0.001)

        def look(kind: str) -> None:
            kept = (place / "members").glob("*/round/*/sent.bin")
            there.setdefault(kind, set()).update(path.parts[-4] for path in kept)

        grid.on_message = look
        SecureFedAvg(federation).one_round(grid)
    assert federation.rounds.rounds()[0].outcome is Outcome.COMPLETED
    assert there[Phase.SHARE.message_type] == set()
    assert there[Phase.SURVIVORS.message_type] == set(inprocess.NAMES)
    assert there[Phase.RESULT.message_type] == set()


def test_every_member_takes_the_release_and_the_next_round_starts_from_it(place: Path) -> None:
    federation = run_round(place, set())
    head = federation.releases.head()
    for name in inprocess.NAMES:
        folder = place / "members" / name
        store = ReleaseStore(folder / "releases", Identity.load(folder).charters)
        assert store.head() == head
        assert (folder / "completion" / "serving" / "CURRENT").read_text().startswith("release-000001")


def test_a_machine_that_only_trains_writes_no_model_to_serve(tmp_path: Path) -> None:
    inprocess.found_in(tmp_path / "federation", of_members={"completions": False})
    federation = run_round(tmp_path / "federation", set())
    assert federation.rounds.rounds()[0].outcome is Outcome.COMPLETED
    for name in inprocess.NAMES:
        folder = tmp_path / "federation" / "members" / name
        assert (
            ReleaseStore(folder / "releases", Identity.load(folder).charters).head()
            == federation.releases.head()
        )
        assert not list((folder / "completion").glob("*/CURRENT"))


def test_a_member_that_is_cut_off_in_training_and_comes_back_before_the_others_are_done_rejoins(
    place: Path,
) -> None:
    federation = Federation.open(place / "coordinator")
    lost = {"elm": 1, "alder": 1}

    class Flaky(inprocess.InProcessGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            for message_id in message_ids:
                message = decode_message(self._waiting[message_id]) if message_id in self._waiting else None
                name = self._names[message.metadata.dst_node_id] if message else ""
                if message and message.metadata.message_type == "train.train" and lost.get(name):
                    lost[name] -= 1
                    del self._waiting[message_id]
                    return [Message(Error(1, Dropped.DISCONNECT.value), reply_to=message)]
            return list(super().pull_messages(message_ids))

    with inprocess.opened(place) as members:
        for index, member in enumerate(members.values()):
            inprocess.store_update(member, federation, 1, 0.001 * (1 + index))
        SecureFedAvg(federation).one_round(Flaky(members, run=7))
    row = federation.rounds.rounds()[0]
    assert (row.outcome, row.attempts, row.dropped) == (Outcome.COMPLETED, 1, {})
    assert lost == {"elm": 0, "alder": 0}
    np.testing.assert_allclose(change(federation), 0.003, atol=2e-4)


def test_a_retry_is_the_next_attempt_with_the_same_stored_updates(place: Path) -> None:
    """Two members fall silent at the upload: no sum. In the second attempt all are there again."""
    federation = Federation.open(place / "coordinator")
    federation.desk.defaults = federation.settings.model_copy(update={"attempts": 2})
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        silent = {(Phase.UPLOAD.message_type, name) for name in ("elm", "cedar")}
        grid.absent = set(silent)
        stored = {
            name: inprocess.store_update(member, federation, 1, 0.001 * (1 + index))
            for index, (name, member) in enumerate(members.items())
        }
        told: list[tuple[str, str]] = []

        class Recovering(list[tuple[str, str]]):
            """Both come back as soon as a second proposal goes out."""

            def append(self, item: tuple[str, str]) -> None:
                told.append(item)
                if told.count(item) > 1 and item[0] == Phase.TRAIN.message_type:
                    grid.absent = set()

        grid.seen = Recovering()
        SecureFedAvg(federation).one_round(grid)
        steps = {name: member.ledger.entries("test", federation.run, 1) for name, member in members.items()}
    row = federation.rounds.rounds()[0]
    assert (row.outcome, row.attempts, row.dropped) == (Outcome.COMPLETED, 2, {})
    np.testing.assert_allclose(change(federation), 0.003, atol=2e-4)
    for name, entries in steps.items():
        assert {entry.attempt for entry in entries} == {0, 1}
        assert {entry.update for entry in entries if entry.update} == {stored[name].identity}
        bound = [entry.digest for entry in entries if entry.step is Step.ADVERTISED]
        assert len(set(bound)) == 2, "each attempt has a context, and so keys, of its own"


@pytest.mark.parametrize("lie", ["another quantiser", "a spent round"])
def test_a_proposal_that_will_be_refused_charges_no_budget_and_trains_nothing(
    place: Path, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation.open(place / "coordinator")
    strategy = SecureFedAvg(federation)
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        if lie == "a spent round":
            for member in members.values():
                inprocess.store_update(member, federation, 1, 0.001)
            assert strategy.one_round(grid)
            monkeypatch.setattr(federation.rounds, "open_round", lambda run: 1)
        else:

            def lying(federation: Federation, round: OngoingRound) -> RoundContext:
                honest = attempt_context(federation, round)
                return replace(honest, quantiser=replace(honest.quantiser, cohort_limit=4000))

            monkeypatch.setattr("sordino_coordinator.attempt.attempt_context", lying)
        before = {name: member.ledger.reservations() for name, member in members.items()}
        assert {len(charges) for charges in before.values()} == {int(lie == "a spent round")}
        assert not strategy.one_round(grid)
        assert {name: member.ledger.reservations() for name, member in members.items()} == before


def evil_upload(place: Path, value: float, evil: float) -> Federation:
    """One round in which elm, whose software clips nothing, uploads a constant `evil` within the ring."""
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for name, member in members.items():
            inprocess.store_update(member, federation, 1, evil if name == "elm" else value)
        SecureFedAvg(federation).one_round(grid)
    return federation


def test_a_sum_longer_than_honest_members_can_make_keeps_the_old_model_and_ends_the_round(
    place: Path,
) -> None:
    federation = evil_upload(place, 0.001, 1e3)  # saturates every coordinate of the ring's range
    row = federation.rounds.rounds()[0]
    assert row.outcome is Outcome.ABORTED_ERROR
    assert "norm" in row.reason
    assert row.attempts == 1
    assert federation.releases.head().number == 0


def test_a_poisoned_update_within_the_bound_passes_and_moves_the_model_by_its_share_only(place: Path) -> None:
    federation = evil_upload(place, 0.001, 0.006)
    assert federation.rounds.rounds()[0].outcome is Outcome.COMPLETED
    np.testing.assert_allclose(change(federation), 0.002, atol=2e-4)


def test_a_member_refuses_a_result_beyond_the_norm_bound_even_with_a_signed_release(place: Path) -> None:
    """A coordinator that uses such a sum all the same: its members compute the bound themselves."""
    federation = Federation.open(place / "coordinator")
    with pytest.MonkeyPatch.context() as patched, inprocess.opened(place) as members:
        patched.setattr("sordino_coordinator.attempt.require_honest_mean", lambda *_, **__: None)
        grid = inprocess.InProcessGrid(members, run=7)
        for name, member in members.items():
            inprocess.store_update(member, federation, 1, 1e3 if name == "elm" else 0.001)
        SecureFedAvg(federation).one_round(grid)
        assert federation.releases.head().number == 1
        assert {member.newest_release() for member in members.values()} == {0}
        for index, member in enumerate(members.values()):
            inprocess.store_update(member, federation, 2, 0.001 * index)
        # The next proposal carries the same weights: too far from what the members hold, and refused as well.
        SecureFedAvg(federation).one_round(grid)
    assert federation.rounds.rounds()[1].outcome is Outcome.ABORTED_COHORT
    assert {member.newest_release() for member in members.values()} == {0}


def test_a_member_refuses_a_first_release_that_does_not_follow_from_the_charter(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator that signs a start of its own choice, say adapters that point where it wants to look."""

    def chosen(terms: ModelTerms) -> dict[str, Vector]:
        parameters = founding_parameters(terms)
        return parameters | {"blocks.0.expand.down": parameters["blocks.0.expand.down"] * 2}

    with monkeypatch.context() as patched:
        patched.setattr("sordino_coordinator.federation.founding_parameters", chosen)
        federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for member in members.values():
            inprocess.store_update(member, federation, 1, 0.001)
        assert not SecureFedAvg(federation).one_round(grid)
        assert {member.newest_release() for member in members.values()} == {-1}
        assert not any(member.ledger.reservations() for member in members.values())


def test_the_transcript_of_a_round_verifies_with_the_charter_alone(place: Path) -> None:
    federation = run_round(place, {(Phase.SHARE, "birch")})
    records = [path.read_bytes() for path in sorted((place / "coordinator" / "transcript").glob("*.bin"))]
    charter = Identity.load(place / "root" / ".." / "members" / "alder").charter
    history = verify_transcript(records, {charter.hash(): charter.membership()})
    assert history.records == 1
    assert history.head == federation.releases.head().transcript_head
    assert history.model_hash == federation.releases.head().vector_hash


def test_an_outsider_verifies_the_history_by_command_from_records_and_charter_alone(
    place: Path, tmp_path: Path
) -> None:
    run_round(place, {(Phase.SHARE, "birch")})
    outside = tmp_path / "outside"
    shutil.copytree(place / "coordinator" / "transcript", outside / "transcript")
    (charter,) = (place / "members" / "alder" / "charters").glob("*.json")
    shutil.copy(charter, outside / "charter.json")
    root = Identity.load(place / "members" / "alder").charters.root
    whole = ["transcript", "verify", str(place / "coordinator"), "--root", root, "--json"]
    done = CliRunner().invoke(coordinator_cli, whole, catch_exceptions=False)
    assert json.loads(done.output)["records"] == 1, "one folder is enough: its charters are there"
    shutil.rmtree(place / "coordinator")

    def verify(folder: str, charter: str = "charter.json") -> tuple[int, str]:
        words = [str(outside / folder), "--charter", str(outside / charter), "--root", root, "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "sordino_platform.cli", "coordinator", "transcript", "verify", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    code, said = verify("transcript")
    assert (code, json.loads(said)["records"]) == (0, 1)
    assert verify("empty")[0] == DataError.exit_code  # a wrong folder is not a verified history
    (record,) = (outside / "transcript").glob("*.bin")
    data = bytearray(record.read_bytes())
    data[len(data) // 2] ^= 1
    record.write_bytes(data)
    assert verify("transcript")[0] == SecaggError.exit_code


def test_plain_flower_aggregation_is_refused(place: Path) -> None:
    strategy = SecureFedAvg(Federation.open(place / "coordinator"))
    with pytest.raises(UsageError):
        strategy.aggregate_train(1, [])
    with pytest.raises(UsageError):
        strategy.aggregate_evaluate(1, [])
    with pytest.raises(UsageError):
        strategy.start(None, ArrayRecord(), evaluate_fn=print)  # type: ignore[arg-type]  # refused before it is used
