"""The table of rounds survives what stops a coordinator."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sordino_coordinator.rounds import Outcome, RoundStore
from sordino_privacy.errors import StorageError


def test_a_round_is_numbered_before_anything_is_sent_and_committed_once(tmp_path: Path) -> None:
    store = RoundStore(tmp_path / "state.sqlite")
    assert [store.open_round("run"), store.open_round("run")] == [1, 2]
    store.close_round(1, Outcome.COMPLETED, release=1, loss=2.5, members=["a", "b"], dropped={"c": "timeout"})
    store.close_round(1, Outcome.ABORTED_ERROR, reason="too late")
    first = store.rounds()[0]
    assert (first.outcome, first.members, first.dropped, first.loss) == (
        Outcome.COMPLETED,
        ("a", "b"),
        {"c": "timeout"},
        2.5,
    )
    assert store.committed_release() == 1
    store.close()


def test_a_round_cut_short_by_sigkill_is_interrupted_and_its_number_never_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    code = (
        "import sys, time; from pathlib import Path; from sordino_coordinator.rounds import RoundStore\n"
        "store = RoundStore(Path(sys.argv[1])); print(store.open_round('run'), flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        os.kill(child.pid, signal.SIGKILL)
    store = RoundStore(path)
    assert store.interrupted() == 1
    assert store.rounds()[0].outcome is Outcome.INTERRUPTED
    assert store.open_round("next run") == 2
    store.close()


def test_a_damaged_or_newer_file_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"not a database, whatever its name says" * 100)
    with pytest.raises(StorageError):
        RoundStore(damaged)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StorageError, match="another version"):
        RoundStore(newer)
