"""A coordinator that is killed at any moment comes back with what it had committed, and training goes on (faults
7, 8, 36)."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import pytest
from tests.coordinator.crew import Crew, Hub, federation

from sordino_coordinator.control.audit import Action, read_lines, verify_audit
from sordino_coordinator.rounds import Outcome, RoundStore
from sordino_platform.flower.phases import Phase
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore
from sordino_privacy.secagg import verify_transcript

PHASES = (Phase.TRAIN, Phase.SHARE, Phase.UPLOAD, Phase.SURVIVORS, Phase.UNMASK, Phase.RESULT)
KILLS = 20


def require_invariants(folder: Path, crew: Crew) -> int:
    """What must hold of a coordinator that has stopped, however it stopped. Returns the number of completed rounds."""
    identity = Identity.load(folder)
    store = RoundStore(folder / "state.sqlite")
    rows = store.rounds()
    store.close()
    chain = ReleaseStore(folder / "releases", identity.charters).verify(weights=True)
    completed = [row for row in rows if row.outcome is Outcome.COMPLETED]
    assert [row.round for row in rows] == list(range(1, len(rows) + 1))
    assert [row.release for row in completed] == list(range(1, len(completed) + 1))
    # A release whose round was not committed may lie there until the next start, and is never shown to anybody.
    assert len(completed) <= len(chain) - 1 <= len(completed) + 1
    for row in completed:
        assert row.release is not None
        assert chain[row.release].manifest.round == row.round
    for member in crew.members.values():
        held = member.releases.chain()
        assert held == chain[: len(held)]
        assert len(held) - 1 <= len(completed)
    keys = frozenset({identity.charter.coordinator.identity_key})
    verify_audit(folder, keys=keys)
    with sqlite3.connect(folder / "state.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    return len(completed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_twenty_times_at_every_phase_it_resumes_and_training_goes_on(
    place: Path, tmp_path: Path
) -> None:
    with federation(place, tmp_path / "log", rounds=0, exchange_seconds=60.0) as (hub, crew):
        seen: set[tuple[str, int]] = set()
        for phase in islice(cycle(PHASES), KILLS):
            hit = threading.Event()

            def strike(
                kind: str, _: str, wanted: str = phase.message_type, hit: threading.Event = hit
            ) -> None:
                if kind == wanted and not hit.is_set():
                    hit.set()
                    hub.kill()

            before = require_completed(hub)
            crew.on_message = strike
            assert hit.wait(120), f"no {phase.value} came"
            hub.until(lambda: not hub.running)
            crew.on_message = lambda *_: None
            after = require_invariants(hub.folder, crew)
            # Only a kill after the commit can leave one more: the phases before it are void.
            assert after - before >= (1 if phase is Phase.RESULT else 0)
            hub.start()
            store = RoundStore(hub.folder / "state.sqlite")
            numbers = {(row.run, row.round) for row in store.rounds()}
            store.close()
            assert seen <= numbers
            seen = numbers
        completed = require_completed(hub)
        hub.until(lambda: require_completed(hub) >= completed + 2)
        hub.send(signal.SIGTERM)
        assert hub.wait() == 0
        require_invariants(hub.folder, crew)
        store = RoundStore(hub.folder / "state.sqlite")
        outcomes = Counter(row.outcome for row in store.rounds())
        store.close()
        assert outcomes[Outcome.INTERRUPTED] >= KILLS * 5 // 6 - 1
        assert outcomes[Outcome.OPEN] == 0
        records = [path.read_bytes() for path in sorted((hub.folder / "transcript").glob("*.bin"))]
        charter = Identity.load(hub.folder).charter
        verify_transcript(records, {charter.hash(): charter.membership()})


def require_completed(hub: Hub) -> int:
    store = RoundStore(hub.folder / "state.sqlite")
    try:
        return store.counts().get(Outcome.COMPLETED, 0)
    finally:
        store.close()


def test_sigterm_gives_the_round_up_after_its_grace_and_ends_with_zero(place: Path, tmp_path: Path) -> None:
    with federation(place, tmp_path / "log", rounds=0, exchange_seconds=250.0, drain_seconds=0.5) as (
        hub,
        crew,
    ):
        stuck = threading.Event()
        reached = threading.Event()

        def hold(kind: str, _: str) -> None:
            if kind == Phase.SHARE.message_type:
                reached.set()
                stuck.wait(60)

        crew.on_message = hold
        assert reached.wait(120)
        hub.send(signal.SIGTERM)
        try:
            assert hub.wait() == 0
        finally:
            stuck.set()
        store = RoundStore(hub.folder / "state.sqlite")
        last = store.rounds()[-1]
        store.close()
        assert (last.outcome, last.reason) == (Outcome.INTERRUPTED, "the coordinator was told to stop")
        actions = [line.entry.action for line in read_lines(hub.folder)]
        assert actions[-2:] == [Action.ROUND_ABORTED, Action.STOPPED]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_two_hundred_times_around_the_commit_it_has_both_or_neither(place: Path) -> None:
    script = Path(__file__).with_name("commit_loop.py")
    done = subprocess.run(
        [sys.executable, str(script), str(place / "coordinator"), "200"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    kills, releases, between = map(int, done.stdout.split())
    assert kills == 200
    assert releases > 0
    assert between > 0, (
        "no kill fell between the model's write and the ledger's commit: the loop proves nothing"
    )
