"""An operator's orders are durable, bounded, and followed between two rounds."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.federation import inprocess
from typer.testing import CliRunner

from sordino_client.round.epochs import waiting_epoch
from sordino_coordinator.beginning import adopt_epoch, begin_round
from sordino_coordinator.commands import app
from sordino_coordinator.control import desk
from sordino_coordinator.control.audit import FILE, FOLDER, Action, read_lines, verify_audit
from sordino_coordinator.control.live import Doing, Live, read_coordinator_status
from sordino_coordinator.control.orders import Orders, read_orders
from sordino_coordinator.control.view import status_facts
from sordino_coordinator.federation import Federation
from sordino_coordinator.gathering import gather, hello, present
from sordino_coordinator.grid import LinkGrid
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.charter.changes import ALWAYS, ChangeKind
from sordino_platform.charter.commands import app as charter_app
from sordino_platform.flower.phases import Phase, node_id
from sordino_platform.identity import Identity
from sordino_platform.identity import authority as root
from sordino_platform.link.server import LinkServer
from sordino_platform.offer import COUNTS, Offer, Unready
from sordino_platform.release import ReleaseStore
from sordino_privacy.errors import SordinoError, UsageError
from sordino_privacy.secagg import verify_transcript


@contextlib.contextmanager
def running(place: Path) -> Iterator[tuple[Federation, SecureFedAvg, inprocess.InProcessGrid]]:
    """A coordinator and its members in this process."""
    federation = Federation.open(place / "coordinator")
    # Every answer is there at once: a deadline would measure this machine's load alone.
    waits = {"exchange_seconds": 3600.0, "train_seconds": 3600.0}
    federation.desk.defaults = federation.settings.model_copy(update=waits)
    with inprocess.opened(place) as members:
        yield federation, SecureFedAvg(federation), inprocess.InProcessGrid(members, run=7)
    federation.rounds.close()


def one_round(
    federation: Federation, strategy: SecureFedAvg, grid: inprocess.InProcessGrid, value: float
) -> bool:
    """One round in which every member's update is `value`."""
    begin_round(federation)  # a rollback or an epoch changes what the stored updates belong to
    number = len(federation.rounds.rounds()) + 1
    for member in grid.members.values():
        inprocess.store_update(member, federation, number, value)
    return bool(strategy.one_round(grid))


def ready(federation: Federation, grid: inprocess.InProcessGrid) -> set[str]:
    """Who says that it is ready for the next round."""
    counts: dict[str, Any] = dict.fromkeys(COUNTS, 4)
    offer = Offer(run=federation.run, plan=federation.plan, **counts)
    return set(hello(federation, grid, list(grid.get_node_ids()), offer)[0])


def actions(hub: Path) -> list[Action]:
    return [line.entry.action for line in read_lines(hub)]


def command(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_pause_outlives_the_process_and_holds_back_the_next_round(place: Path, hub: Path) -> None:
    command("pause", "--folder", str(hub))
    with running(place) as (federation, strategy, grid):
        resumed = threading.Timer(1.0, desk.resume, args=[hub])
        resumed.start()
        assert federation.desk.must_wait()
        assert federation.live.status.doing is Doing.PAUSED
        assert one_round(federation, strategy, grid, 0.001)
        resumed.join()
    assert read_orders(hub) == Orders()


def test_a_pause_ends_the_wait_for_members_and_begins_no_round(place: Path, hub: Path) -> None:
    with running(place) as (federation, _, grid):
        federation.desk.defaults = federation.settings.model_copy(update={"quorum": 9})
        paused = threading.Timer(0.5, desk.pause, args=[hub])
        paused.start()
        begin_round(federation)
        assert gather(federation, grid, yielding=True) == ({}, {})
        paused.join()
        assert federation.rounds.rounds() == []


def test_pace_holds_from_the_next_round_on_and_is_bounded(place: Path, hub: Path) -> None:
    shown = json.loads(
        command("pace", "--folder", str(hub), "--quorum", "5", "--pause-seconds", "60", "--json")
    )
    assert (shown["quorum"], shown["pause_seconds"]) == (5, 60.0)
    with running(place) as (federation, strategy, grid):
        assert one_round(federation, strategy, grid, 0.001)
        assert federation.quorum() == 5
        federation.desk.rest()
        assert federation.desk.must_wait()
        assert federation.live.status.doing is Doing.RESTING
    with pytest.raises(UsageError, match="attempts"):
        desk.set_pace(hub, federation.desk.defaults, {"attempts": 99})
    with pytest.raises(UsageError, match="not a window"):
        desk.set_pace(hub, federation.desk.defaults, {"schedule": ("whenever",)})
    assert json.loads(command("pace", "--folder", str(hub), "--reset", "--json"))["quorum"] == 0


def test_the_charters_smallest_cohort_cannot_be_ordered_away(place: Path, hub: Path) -> None:
    command("pace", "--folder", str(hub), "--quorum", "1", "--cohort", "1")
    with running(place) as (federation, _, _grid):
        begin_round(federation)
        assert federation.quorum() == federation.charter.floors.cohort == 4


def test_outside_the_schedule_no_round_begins(place: Path, hub: Path) -> None:
    command("pace", "--folder", str(hub), "--schedule", "mon 08:00-09:00")
    with running(place) as (federation, _, _grid):
        federation.desk.now = lambda: datetime(2026, 11, 24, 12, tzinfo=UTC)
        assert federation.desk.must_wait()
        assert federation.live.status.doing is Doing.CLOSED
        assert federation.live.status.until == datetime(2026, 11, 30, 8, tzinfo=UTC).timestamp()
        federation.desk.now = lambda: datetime(2026, 11, 30, 8, tzinfo=UTC)
        assert not federation.desk.must_wait()


def test_a_rollback_is_made_between_two_rounds_and_training_goes_on_from_it(place: Path, hub: Path) -> None:
    with running(place) as (federation, strategy, grid):
        assert one_round(federation, strategy, grid, 0.001)
        assert one_round(federation, strategy, grid, 0.002)
        before = federation.releases.vector(1)
        desk.order_rollback(hub, 1)
        assert one_round(federation, strategy, grid, 0.003)
        assert [m.manifest.restores for m in federation.releases.chain()] == [None, None, None, 1, None]
        np.testing.assert_array_equal(federation.releases.vector(3), before)
        np.testing.assert_allclose(federation.releases.vector(4) - before, 0.003, atol=2e-4)
        for member in grid.members.values():
            assert member.releases.head() == federation.releases.head()
    records = [path.read_bytes() for path in sorted((hub / "transcript").glob("*.bin"))]
    charter = Identity.load(hub).charter
    assert verify_transcript(records, {charter.hash(): charter.membership()}).records == 3
    assert Action.ROLLED_BACK in actions(hub)
    assert read_orders(hub).restore is None


def test_a_rollback_by_command_needs_no_running_coordinator(place: Path, hub: Path) -> None:
    with running(place) as (federation, strategy, grid):
        assert one_round(federation, strategy, grid, 0.001)
    words = ["coordinator", "rollback", "--folder", str(hub), "--release", "0", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "sordino_platform.cli", *words], capture_output=True, check=True
    )
    made = json.loads(done.stdout)
    assert made == {"ordered": 0, "release": 2}
    chain = ReleaseStore(hub / "releases", Identity.load(hub).charters).verify(weights=True)
    assert chain[2].manifest.restores == 0
    with pytest.raises(SordinoError, match="newest already"):
        command("rollback", "--folder", str(hub), "--release", "2")


def test_a_rollback_that_became_impossible_is_noted_once_and_stops_nothing(place: Path, hub: Path) -> None:
    desk.order_rollback(hub, 7)
    with running(place) as (federation, strategy, grid):
        assert one_round(federation, strategy, grid, 0.001)
        assert one_round(federation, strategy, grid, 0.001)
    assert actions(hub).count(Action.ROLLBACK_FAILED) == 1


def test_a_new_epoch_reaches_members_with_the_next_round_and_nobody_restarts(place: Path, hub: Path) -> None:
    with running(place) as (federation, strategy, grid):
        assert one_round(federation, strategy, grid, 0.001)
        root.retire(place / "root", "elm")
        signed = root.sign_epoch(place / "root").to_bytes()
        federation.identity.charters.accept(signed)
        grid.leave("elm")
        assert one_round(federation, strategy, grid, 0.002)
        assert (federation.charter.epoch, len(federation.membership.members)) == (2, 4)
        last = federation.rounds.rounds()[-1]
        assert (last.outcome, "elm" in last.members) == (Outcome.COMPLETED, False)
        assert {member.charter.epoch for member in grid.members.values()} == {2}
        assert (
            federation.metrics.metrics.registry.get_sample_value(
                "sordino_clients_enrolled", {"state": "revoked"}
            )
            == 1
        )
    assert Action.EPOCH_ADOPTED in actions(hub)


def test_an_epoch_that_protects_less_waits_for_a_person_at_each_member(place: Path, hub: Path) -> None:
    with running(place) as (federation, strategy, grid):
        looser = federation.charter.privacy.model_copy(update={"largest_epsilon": 9.5})
        root.begin_epoch(place / "root", privacy=looser)
        signed = root.sign_epoch(place / "root").to_bytes()
        federation.identity.charters.accept(signed)
        adopt_epoch(federation)
        assert ready(federation, grid) == set()
        assert {member.charter.epoch for member in grid.members.values()} == {1}
        for member in grid.members.values():
            member.identity.charters.accept(signed)
        assert one_round(federation, strategy, grid, 0.001)
        assert {member.ledger.budget.epsilon for member in grid.members.values()} == {
            8.0
        }  # their own cap stays


def test_an_epoch_waits_for_a_person_unless_the_member_named_what_it_takes_unasked(place: Path) -> None:
    """A signed epoch that replaces somebody: nobody takes it over, and each says what to type."""
    with running(place) as (federation, strategy, grid):
        for member in grid.members.values():
            member.settings = member.settings.model_copy(update={"accept_unasked": []})
        root.retire(place / "root", "elm")
        signed = root.sign_epoch(place / "root").to_bytes()
        federation.identity.charters.accept(signed)
        grid.leave("elm")
        adopt_epoch(federation)
        assert ready(federation, grid) == set()
        assert set(federation.unready.values()) == {Unready.EPOCH}
        for member in grid.members.values():
            assert member.charter.epoch == member.identity.charter.epoch == 1
            assert not member.ledger.reservations()
            waits = waiting_epoch(member.folder, member.identity.charters)
            assert waits is not None
            assert waits.epoch == 2
            assert {change.kind for change in waits.changes} - ALWAYS == {ChangeKind.MEMBERS_REMOVED}
            done = CliRunner().invoke(charter_app, waits.command.split()[2:], catch_exceptions=False)
            assert (done.exit_code, "members.elm" in done.output) == (0, True)
            assert waiting_epoch(member.folder, member.identity.charters) is None
        assert one_round(federation, strategy, grid, 0.001)
        assert {member.charter.epoch for member in grid.members.values()} == {2}


def test_an_epoch_that_begins_during_a_round_voids_it(place: Path, hub: Path) -> None:
    with running(place) as (federation, strategy, grid):
        root.retire(place / "root", "elm")
        signed = root.sign_epoch(place / "root").to_bytes()
        for member in grid.members.values():
            inprocess.store_update(member, federation, 1, 0.001)
        unmask = Phase.UNMASK.message_type
        grid.on_message = lambda kind: kind == unmask and federation.identity.charters.accept(signed)
        assert not strategy.one_round(grid)
        row = federation.rounds.rounds()[-1]
        assert (row.outcome, federation.releases.head().number) == (Outcome.ABORTED_ERROR, 0)
        assert "a new epoch of the charter began (2): elm was retired" in row.reason


@pytest.mark.parametrize("phase", [Phase.TRAIN, Phase.SHARE])
def test_an_epoch_that_begins_before_the_uploads_ends_the_round_before_anybody_pays(
    place: Path, hub: Path, phase: Phase
) -> None:
    with running(place) as (federation, strategy, grid):
        root.retire(place / "root", "elm")
        signed = root.sign_epoch(place / "root").to_bytes()
        for member in grid.members.values():
            inprocess.store_update(member, federation, 1, 0.001)
        asked: list[str] = []

        def begin(kind: str) -> None:
            asked.append(kind)
            if kind == phase.message_type:
                federation.identity.charters.accept(signed)

        grid.on_message = begin
        assert not strategy.one_round(grid)
        assert Phase.UPLOAD.message_type not in asked
        assert "new epoch" in federation.rounds.rounds()[-1].reason


@pytest.mark.parametrize(
    "at",
    [
        Phase.TRAIN,
        Phase.SHARE,
        *(
            pytest.param(phase, marks=pytest.mark.slow)
            for phase in (Phase.UPLOAD, Phase.SURVIVORS, Phase.UNMASK)
        ),
    ],
)
def test_a_round_outlives_an_epoch_that_does_not_touch_it_and_is_released_under_its_own(
    place: Path, hub: Path, at: Phase
) -> None:
    """elm is not in the round, and is retired during it. From SHARE on, each member has accepted that too."""
    with running(place) as (federation, strategy, grid):
        grid.leave("elm")
        root.retire(place / "root", "elm")
        signed = root.sign_epoch(place / "root").to_bytes()
        for member in grid.members.values():
            inprocess.store_update(member, federation, 1, 0.001)

        def begin(kind: str) -> None:
            if kind == at.message_type:
                federation.identity.charters.accept(signed)
                for member in grid.members.values() if at is not Phase.TRAIN else ():
                    member.identity.charters.accept(signed)

        grid.on_message = begin
        assert strategy.one_round(grid)
        assert federation.identity.charter.epoch == 2
        assert federation.releases.head().charter_hash == federation.charter.hash()
        assert federation.charter.epoch == 1
        assert {member.newest_release() for member in grid.members.values()} == {1}
        grid.on_message = len
        assert one_round(federation, strategy, grid, 0.001)  # and the next is held under the new one
        assert federation.releases.head().charter_hash == federation.identity.charter.hash()
        assert {member.newest_release() for member in grid.members.values()} == {2}
    records = [path.read_bytes() for path in sorted((hub / "transcript").glob("*.bin"))]
    known = {epoch.hash(): epoch.membership() for epoch in Identity.load(hub).charters.epochs().charters}
    assert verify_transcript(records, known).records == 2


def test_a_stop_drains_and_then_gives_the_round_up(place: Path, hub: Path) -> None:
    with running(place) as (federation, strategy, grid):
        federation.desk.defaults = federation.settings.model_copy(
            update={"drain_seconds": 0.0, "exchange_seconds": 250.0}
        )
        grid.absent = {(Phase.SHARE.message_type, name) for name in inprocess.NAMES}
        for member in grid.members.values():
            inprocess.store_update(member, federation, 1, 0.001)
        stop = threading.Timer(3.0, federation.stop)
        stop.start()
        assert not strategy.one_round(grid)
        stop.join()
        row = federation.rounds.rounds()[-1]
        assert (row.outcome, row.reason) == (Outcome.INTERRUPTED, "the coordinator was told to stop")


class Links:
    """Of a link's server, what tells who holds a link: each of these, at this moment."""

    def __init__(self, *names: str) -> None:
        self._names = frozenset(names)

    def connected(self) -> frozenset[str]:
        return self._names


def test_who_was_retired_and_still_holds_a_link_counts_for_nothing(place: Path, hub: Path) -> None:
    links = Links(*inprocess.NAMES, "quince")
    federation = Federation.open(hub)
    with contextlib.closing(federation.rounds):
        grid = LinkGrid(cast(LinkServer, links), run=7, count=federation.count_bytes)
        assert set(grid.members()) == {*inprocess.NAMES, "quince"}
        assert sorted(present(federation, grid)) == sorted(node_id(name) for name in inprocess.NAMES)
        root.retire(place / "root", "elm")
        federation.identity.charters.accept(root.sign_epoch(place / "root").to_bytes())
        adopt_epoch(federation)
        assert node_id("elm") not in present(federation, grid)
        assert len(present(federation, grid)) == len(inprocess.NAMES) - 1


def test_the_last_of_many_fast_changes_is_in_the_file_too(tmp_path: Path) -> None:
    """Counts are written once a second; nothing more happens afterwards, and the file must not stay behind."""
    live = Live(tmp_path, version="0")
    live.update(doing=Doing.WAITING)
    for connected in range(1, 6):
        live.update(connected=connected)
    while (
        read_coordinator_status(tmp_path) != live.status
    ):  # the test's own time limit ends this where it never comes
        time.sleep(0.01)
    live.update(connected=1)
    live.update(doing=Doing.STOPPED)
    assert read_coordinator_status(tmp_path) == live.status


def test_what_the_coordinator_did_is_in_its_audit_log_and_status(place: Path, hub: Path) -> None:
    with running(place) as (federation, strategy, grid):
        federation.rounds.note_member("alder", certificate_expires=1.0)
        assert one_round(federation, strategy, grid, 0.001)
        federation.show()
        sample = federation.metrics.metrics.registry.get_sample_value
        assert sample("sordino_clients_enrolled", {"state": "expired"}) == 1
        assert sample("sordino_clients_enrolled", {"state": "active"}) == 4
        assert sample("sordino_audit_events_total", {"action": "round_completed"}) == 1
        facts = status_facts(hub)
        assert facts["running"]
        assert facts["live"]["phase"] == "result"
    facts = status_facts(hub)
    assert (facts["release"], facts["last_outcome"], facts["rounds_completed"]) == (1, "completed", 1)
    assert [member["name"] for member in facts["members"]] == ["alder"]
    key = Identity.load(hub).card.identity_key
    count, _ = verify_audit(hub, keys=frozenset({key}))
    assert count == len(actions(hub))
    assert "round_completed" in command("audit", "show", "--folder", str(hub))
    assert "verified" in command("audit", "verify", "--folder", str(hub))
    (hub / FOLDER / FILE).write_bytes(b"")
    assert json.loads(command("audit", "verify", "--folder", str(hub), "--json"))["entries"] == 0
