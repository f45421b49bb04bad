"""A lock that is held while a completion is being computed, so that training on the same machine can give way.

    STATE/busy.lock     locked by the completion engine while it has a query; its content means nothing

The kernel drops the lock with the process, so an engine that crashed never keeps training waiting.
"""

from __future__ import annotations

from pathlib import Path

from sordino_platform.machine.locks import Lock

# A process that asks holds the lock for an instant; a completion waits no longer for it than until it asks again.
AGAIN_SECONDS = 0.0005


def place(state: Path) -> Path:
    """Where the lock of a completion folder lies."""
    return state / "busy.lock"


class Presence:
    """The engine's side. Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: Lock | None = None

    def enter(self) -> None:
        """A completion begins. If the lock cannot be made (a full disk), training does not wait; nothing else
        changes."""
        if self._lock is None:
            try:
                self._lock = Lock(self._path)
            except OSError:
                return
        self._lock.take(poll_seconds=AGAIN_SECONDS)

    def leave(self) -> None:
        """No completion is being computed any more."""
        if self._lock is not None:
            self._lock.release()


def occupied(path: Path) -> bool:
    """Whether an engine holds the lock now."""
    try:
        lock = Lock(path, create=False)
    except OSError:
        return False
    with lock:
        return not lock.try_take()
