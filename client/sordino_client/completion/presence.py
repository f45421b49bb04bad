"""A lock that is held while a completion is in work, so that training on the same machine can give way.

    STATE/busy.lock     locked (flock) by the completion engine while it has a query; its content means nothing

The kernel drops the lock with the process, so an engine that crashed never keeps training waiting.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def place(state: Path) -> Path:
    """Where the lock of a completion folder lies."""
    return state / "busy.lock"


class Presence:
    """The engine's side. Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1

    def enter(self) -> None:
        """A completion is in work. Where the lock cannot be made (a full disk), training does not wait: no more."""
        if self._handle < 0:
            try:
                self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                return
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    def leave(self) -> None:
        """None is in work any more."""
        if self._handle >= 0:
            fcntl.flock(self._handle, fcntl.LOCK_UN)


def occupied(path: Path) -> bool:
    """Whether an engine holds the lock now."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
