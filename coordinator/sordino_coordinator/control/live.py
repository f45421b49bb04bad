"""What the coordinator does now: in memory for its own API, and in `status.json` for readers of the folder.

The file is a courtesy: a full disk must not stop a round, whose own writes raise. Changes in quick succession are
written together, and the last one is always written: otherwise the file would be wrong for as long as nothing happens.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from sordino_platform.durable import read_file, write_file
from sordino_privacy.errors import SordinoError

FILE = "status.json"
MAX_STATUS_BYTES = 1 << 16
WRITE_EVERY_SECONDS = 1.0


class Doing(StrEnum):
    """The states of a coordinator's process."""

    STARTING = "starting"
    WAITING = "waiting_for_members"
    PAUSED = "paused"
    CLOSED = "outside_schedule"
    RESTING = "resting"
    ROUND = "in_round"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorStatus:
    """One look at the process. Times are Unix time in seconds; `phase` and its counts only mean something in a
    round."""

    pid: int
    version: str
    doing: Doing = Doing.STARTING
    since: float = 0.0
    until: float | None = None
    round: int | None = None
    attempt: int = 0
    phase: str | None = None
    phase_since: float | None = None
    asked: int = 0
    answered: int = 0
    connected: int = 0
    required: int = 0
    completed: int = 0
    api_port: int | None = None


class Live:
    """The status of this process. Any thread may read it; the coordinator's own changes it."""

    def __init__(self, folder: Path, *, version: str) -> None:
        self._path, self._lock, self._written = folder / FILE, threading.Lock(), -math.inf
        self._later: threading.Timer | None = None
        self._status = CoordinatorStatus(pid=os.getpid(), version=version, since=time.time())

    @property
    def status(self) -> CoordinatorStatus:
        """The present status."""
        return self._status

    def update(self, **changes: Any) -> None:
        """Notes what changed. A new state or phase is written at once, counts within a second."""
        with self._lock:
            before = self._status
            if changes.get("doing", before.doing) != before.doing:
                changes["since"] = time.time()
            self._status = after = replace(before, **changes)
            turned = (after.doing, after.phase, after.round) != (before.doing, before.phase, before.round)
            left = self._written + WRITE_EVERY_SECONDS - time.monotonic()
            if turned or left <= 0:
                self._write()
            elif after != before and self._later is None:
                self._later = threading.Timer(left, self._catch_up)
                self._later.daemon = True  # a process that stops writes its last state at once
                self._later.start()

    def _catch_up(self) -> None:
        with self._lock:
            if self._later is not None:
                self._write()

    def _write(self) -> None:
        """Writes the present status; what was to be written later is in it. The lock is held."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._written = time.monotonic()
        with contextlib.suppress(SordinoError):
            write_file(self._path, json.dumps(asdict(self._status)).encode(), secret=True)


def read_coordinator_status(folder: Path) -> CoordinatorStatus | None:
    """The last status that a coordinator wrote in `folder`, or None. Raises StorageError."""
    path = folder / FILE
    if not path.exists():
        return None
    raw = json.loads(read_file(path, limit=MAX_STATUS_BYTES))
    return CoordinatorStatus(**(raw | {"doing": Doing(raw["doing"])}))
