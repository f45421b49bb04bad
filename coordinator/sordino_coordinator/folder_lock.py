"""One folder has one coordinator: a process that works on it holds its lock."""

from __future__ import annotations

from pathlib import Path

from sordino_platform.machine.locks import Lock
from sordino_privacy.errors import StorageError


def take_lock(folder: Path) -> Lock:
    """Holds the folder for this process. Raises StorageError when another coordinator runs on it."""
    lock = Lock(folder / "coordinator.lock")
    if not lock.try_take():
        lock.close()
        raise StorageError(
            f"another coordinator runs in {folder}", hint="stop it first; one folder has one coordinator"
        )
    return lock
