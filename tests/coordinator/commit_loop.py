"""Kills a coordinator's process N times at random moments around `commit`, and checks the state at each start.

    python commit_loop.py FOLDER N        prints: kills, committed releases, kills between model write and commit

The state, its files and the code that writes them are the coordinator's own. Only the opened sum is made up here,
because what is in it does not matter to whether it is kept.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sordino_coordinator.federation import Federation
from sordino_coordinator.releasing import commit_release
from sordino_coordinator.rounds import Outcome
from sordino_platform.architecture import Vector
from sordino_platform.telemetry import configure_logging


@dataclass(frozen=True)
class Sum:
    """An opened sum and its session, as far as `commit` asks."""

    survivors: tuple[str, ...]
    dimension: int
    number: int
    saturated: int = 0
    evidence: bytes = b""
    silent: tuple[str, ...] = ()

    @property
    def cohort(self) -> tuple[str, ...]:
        return self.survivors

    @property
    def vector(self) -> Vector:
        return np.full(self.dimension, self.number, dtype=np.float32)

    integers = carries = vector

    @property
    def totals(self) -> Sum:
        return self

    def mean(self) -> Vector:
        return np.full(self.dimension, 1e-6, dtype=np.float32)

    def record(self, previous: bytes, model_hash: bytes) -> bytes:
        return previous + model_hash + self.number.to_bytes(8, "big")


def life(folder: Path, said: int) -> None:
    """One process: starts as a coordinator does, checks what it finds, and makes releases until it is killed."""
    federation = Federation.open(folder)
    rows, chain = federation.rounds.rounds(last=100_000), federation.releases.verify(weights=True)
    completed = [row for row in rows if row.outcome is Outcome.COMPLETED]
    made = [signed.manifest.round for signed in chain if signed.manifest.round is not None]
    assert made == [row.round for row in completed], (
        "a release without its round, or a round without its release"
    )
    assert [row.round for row in rows] == list(range(1, len(rows) + 1))
    assert all(row.outcome is not Outcome.OPEN for row in rows)
    records = sorted(int(path.stem) for path in (folder / "transcript").glob("*.bin"))
    assert records == list(range(1, len(chain)))
    os.write(said, b"ready\n")
    members = tuple(member.name for member in federation.membership.members)
    while True:
        number = federation.rounds.open_round(federation.run)
        opened = Sum(members, federation.weights().size, number)
        release = commit_release(federation, number, opened, opened)  # type: ignore[arg-type]
        federation.rounds.close_round(number, Outcome.COMPLETED, release=release, members=members)


def main(folder: Path, kills: int) -> None:
    """Forks, waits until the child is ready, kills it at a random moment; counts what its successor had to undo."""
    configure_logging(None, console=False)
    logging.disable(logging.CRITICAL)
    seed = random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)
    between = 0
    for number in range(kills + 1):
        heard, said = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(heard)
            try:
                life(folder, said)
            except BaseException:  # noqa: BLE001 - a forked child says why it dies and never returns
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(said)
        ready = os.read(heard, 16)
        assert ready == b"ready\n", f"life {number} found a broken state (seed {seed})"
        time.sleep(chance.uniform(0.0, 0.12))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"life {number} ended by itself (seed {seed})"
        os.close(heard)
        between += uncommitted(folder)
    federation = Federation.open(folder)
    print(kills, federation.releases.head().number, between)


def uncommitted(folder: Path) -> int:
    """Whether a release lies there whose round was not committed, before any start removes it."""
    import sqlite3

    database = sqlite3.connect(folder / "state.sqlite")
    (release,) = database.execute(
        "SELECT coalesce(max(release), 0) FROM rounds WHERE outcome='completed'"
    ).fetchone()
    database.close()
    return int((folder / "releases" / f"{release + 1:06d}").exists())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
