"""What the guides on backup and upgrade promise, tried: a restored folder, the database of an older release, a
clock."""

from __future__ import annotations

import sqlite3
import subprocess
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from tests.coordinator.test_orders import command, one_round, running

from sordino_coordinator.behind import require_not_behind
from sordino_coordinator.control.view import status_facts
from sordino_coordinator.round_tables import SCHEMA
from sordino_coordinator.rounds import Outcome, RoundStore
from sordino_platform.flower.phases import Phase
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore
from sordino_privacy.errors import ConfigurationError


def back_up(hub: Path, archive: Path) -> None:
    subprocess.run(["tar", "-C", hub.parent, "-cpf", archive, hub.name], check=True)


def restore(hub: Path, archive: Path) -> None:
    hub.rename(hub.with_name("coordinator.damaged"))
    with tarfile.open(archive) as tar:
        tar.extractall(hub.parent, filter="fully_trusted")


def test_a_coordinator_restored_after_its_last_round_goes_on_where_it_was(
    place: Path, hub: Path, tmp_path: Path
) -> None:
    with running(place) as (federation, strategy, grid):
        assert one_round(federation, strategy, grid, 0.001)
    back_up(hub, tmp_path / "backup.tar")
    (hub / "state.sqlite").write_bytes(b"lost")
    restore(hub, tmp_path / "backup.tar")
    assert "verified" in command("audit", "verify", "--folder", str(hub))
    charter, pin = hub / "charters" / "charter-000001.json", Identity.load(hub).charters.root
    checked = command(
        "transcript", "verify", str(hub / "transcript"), "--charter", str(charter), "--root", pin
    )
    assert "1 sums verified" in checked
    with running(place) as (federation, strategy, grid):
        assert one_round(federation, strategy, grid, 0.001)
        assert federation.releases.head().number == 2
        assert grid.members["elm"].releases.head() == federation.releases.head()


def test_a_coordinator_restored_from_before_the_last_round_stops_and_says_what_to_do(
    place: Path, hub: Path, tmp_path: Path
) -> None:
    back_up(hub, tmp_path / "backup.tar")
    with running(place) as (federation, strategy, grid):
        assert one_round(federation, strategy, grid, 0.001)
    restore(hub, tmp_path / "backup.tar")
    with running(place) as (federation, strategy, grid):
        held = {name: member.releases.head() for name, member in grid.members.items()}
        with pytest.raises(ConfigurationError, match="5 members hold newer releases than 0") as caught:
            one_round(federation, strategy, grid, 0.002)
        assert "sordino coordinator adopt" in caught.value.hint
        assert {name: member.releases.head() for name, member in grid.members.items()} == held
        charged = {name: len(member.ledger.reservations()) for name, member in grid.members.items()}
        assert set(charged.values()) == {1}  # of the round before the restore


def test_a_members_word_alone_does_not_stop_a_coordinator(place: Path) -> None:
    membership = Identity.load(place / "coordinator").charter.membership()
    require_not_behind(membership, {"alder"}, release=3)
    with pytest.raises(ConfigurationError, match="2 members hold newer releases than 3"):
        require_not_behind(membership, {"alder", "birch"}, release=3)


def test_a_database_of_the_release_before_is_taken_over_in_place(hub: Path) -> None:
    path = hub / "state.sqlite"
    for old in hub.glob("state.sqlite*"):
        old.unlink()
    with sqlite3.connect(path) as database:
        database.executescript(f"{SCHEMA} PRAGMA user_version=1;")
        database.execute("INSERT INTO rounds (round, run, outcome, started) VALUES (7, 'r', 'open', 1.0)")
    database.close()
    store = RoundStore(path)
    assert store.interrupted() == 1
    store.note_member("alder", certificate_expires=2.0)
    assert (store.rounds()[0].outcome, store.open_round("s")) == (Outcome.INTERRUPTED, 8)
    store.close()
    assert status_facts(hub)["members"][0]["name"] == "alder"


@pytest.mark.parametrize("hours", [24, -2], ids=["a day ahead", "two hours back"])
def test_a_clock_that_is_set_during_a_round_ends_no_round_early_or_late(
    place: Path, hub: Path, hours: int
) -> None:
    """Deadlines count on the monotonic clock; only what is signed and shown carries the wall clock."""
    with running(place) as (federation, strategy, grid):
        traveller = time_machine.travel(datetime.now(UTC) + timedelta(hours=hours), tick=True)
        moved: list[object] = []

        def move(kind: str) -> None:
            if kind == Phase.UPLOAD.message_type and not moved:
                moved.append(traveller.start())

        grid.on_message = move
        try:
            assert one_round(federation, strategy, grid, 0.001)
        finally:
            if moved:
                traveller.stop()
        row = federation.rounds.rounds()[-1]
        assert (row.outcome, row.dropped) == (Outcome.COMPLETED, {})
        assert max(row.phases.values()) < 60
    assert len(ReleaseStore(hub / "releases", Identity.load(hub).charters).verify(weights=True)) == 2
