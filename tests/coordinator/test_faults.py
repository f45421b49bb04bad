"""A coordinator over TLS meets a full disk, a retirement in the middle of a round, and fifty members at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.coordinator.crew import federation
from tests.coordinator.test_orders import running
from tests.federation import inprocess

from sordino_coordinator.control.audit import Action, read_lines, verify_audit
from sordino_coordinator.rounds import Outcome, RoundRecord, RoundStore
from sordino_platform.flower.phases import Phase
from sordino_platform.identity import Identity
from sordino_platform.identity import authority as root
from sordino_platform.release import ReleaseStore


def rounds(folder: Path) -> list[RoundRecord]:
    store = RoundStore(folder / "state.sqlite")
    try:
        return store.rounds()
    finally:
        store.close()


def completed(folder: Path) -> int:
    return sum(row.outcome is Outcome.COMPLETED for row in rounds(folder))


def test_a_member_that_is_retired_during_a_round_is_out_at_once_and_nobody_restarts(
    place: Path, tmp_path: Path
) -> None:
    with federation(place, tmp_path / "log", rounds=0, exchange_seconds=60.0, pause_seconds=0.5) as (
        hub,
        crew,
    ):
        root.retire(place / "root", "elm")
        signed = root.sign_epoch(place / "root").to_bytes()
        retired = threading.Event()

        def retire(kind: str, _: str) -> None:
            if kind == Phase.SHARE.message_type and not retired.is_set():
                retired.set()
                Identity.load(hub.folder).charters.accept(signed)

        def noted(action: Action) -> list[str]:
            return [line.entry.detail for line in read_lines(hub.folder) if line.entry.action is action]

        crew.on_message = retire
        assert retired.wait(120)
        number = len(rounds(hub.folder))
        hub.until(
            lambda: any(row.round > number and row.outcome is Outcome.COMPLETED for row in rounds(hub.folder))
        )
        # Its link is looked at with its next message, or by a timer: rounds go on meanwhile.
        hub.until(lambda: any("'elm' is not a member" in detail for detail in noted(Action.MEMBER_REFUSED)))
        hub.send(signal.SIGTERM)
        assert hub.wait() == 0
        for row in rounds(hub.folder):
            assert row.round < number or "elm" not in row.members
        assert crew.members["alder"].charter.epoch == 2
        assert set(crew.refused) <= {"elm"}  # told for good, if it came back before the end
        assert noted(Action.EPOCH_ADOPTED)


def test_a_round_of_real_processes_outlives_an_epoch_that_only_lets_the_charter_live_longer(
    place: Path, tmp_path: Path
) -> None:
    with federation(place, tmp_path / "log", rounds=0, exchange_seconds=60.0, pause_seconds=0.5) as (
        hub,
        crew,
    ):
        root.begin_epoch(place / "root")
        signed = root.sign_epoch(place / "root").to_bytes()
        begun = threading.Event()

        def begin(kind: str, _: str) -> None:
            if kind == Phase.SHARE.message_type and not begun.is_set():
                begun.set()
                Identity.load(hub.folder).charters.accept(signed)

        crew.on_message = begin
        assert begun.wait(120)
        hub.until(lambda: all(member.charter.epoch == 2 for member in crew.members.values()))
        hub.until(lambda: completed(hub.folder) >= 2)
        hub.send(signal.SIGTERM)
        assert hub.wait() == 0
        assert {row.outcome for row in rounds(hub.folder)} == {Outcome.COMPLETED}
        assert rounds(hub.folder)[0].attempts == 1


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """The coordinator's folder on a disk of 4 MiB."""
    folder = place / "coordinator"
    kept = place / "kept"
    folder.rename(kept)
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", folder], check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Takes what is left of the disk."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_ends_it_with_the_reason_and_what_was_committed_survives(
    place: Path, small_disk: Path, tmp_path: Path
) -> None:
    with federation(place, tmp_path / "log", rounds=0, exchange_seconds=60.0) as (hub, crew):
        hub.until(lambda: completed(small_disk) >= 1)
        full = threading.Event()

        def strike(kind: str, _: str) -> None:
            if kind == Phase.UNMASK.message_type and not full.is_set():
                full.set()
                fill(small_disk)

        crew.on_message = strike
        assert full.wait(120)
        assert hub.wait() == 8
        said = (tmp_path / "log").read_text()
        assert "error: cannot" in said
        assert "disk is full" in said
        assert "what to do: free some" in said
        (small_disk / "ballast").unlink()
        before = completed(small_disk)
        chain = ReleaseStore(small_disk / "releases", Identity.load(small_disk).charters).verify(weights=True)
        assert before <= len(chain) - 1 <= before + 1
        hub.start()
        hub.until(lambda: completed(small_disk) >= before + 2)
        assert rounds(small_disk)[before].outcome is Outcome.INTERRUPTED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_what_is_only_noted_refuses_nobody_on_a_full_disk(place: Path, small_disk: Path) -> None:
    with running(place) as (federation, _, _grid):
        ballast = fill(small_disk)
        for _ in range(200):  # the database's own pages may take a few more rows
            federation.note(lambda: federation.audit.append(Action.MEMBER_REFUSED, "x" * 900))
            federation.note(lambda: federation.rounds.note_member("alder", certificate_expires=1.0))
        assert (
            federation.metrics.metrics.registry.get_sample_value("sordino_ledger_write_errors_total") or 0
        ) > 0
        ballast.unlink()
        federation.note(lambda: federation.audit.append(Action.MEMBER_REFUSED, "again"))
    key = Identity.load(small_disk).card.identity_key
    verify_audit(small_disk, keys=frozenset({key}))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_members_join_at_once_and_complete_a_round(tmp_path: Path) -> None:
    names = [f"member-{number:02d}" for number in range(50)]
    place = tmp_path / "federation"
    inprocess.found_in(place, cohort=50, names=names)
    with federation(place, tmp_path / "log", rounds=1, exchange_seconds=250.0, train_seconds=250.0) as (
        hub,
        _,
    ):
        assert hub.wait(600) == 0
        (row,) = rounds(hub.folder)
        assert (row.outcome, row.members, row.dropped) == (Outcome.COMPLETED, tuple(names), {})
        assert row.bytes_in > 50 * 50_000  # each uploads 25,216 ring elements of two bytes or more
        # Rosters, shares and the result: a model goes to nobody who holds it.
        assert row.bytes_out > 50 * 20_000
