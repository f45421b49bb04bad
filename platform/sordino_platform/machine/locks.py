"""A lock on a file: held by one process at a time. The kernel releases it when that process ends, in any way.

    with Lock(folder / ".lock") as lock:
        lock.take()
        ...

`flock` on Linux and macOS, `LockFileEx` on Windows, both by the library filelock. The file stays when the lock is
released: if it were removed, two processes could each lock a different file of the same name.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

from sordino_platform.machine.files import SECRET_MODE

POLL_SECONDS = 0.02


class Lock:
    """An open lock file. Raises OSError when it cannot be opened."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Opens `path`. With `create`, a missing file is made with mode 0600."""
        # Python opens every file so that no child inherits it; a lock that a child kept would outlive its holder.
        self._descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), SECRET_MODE)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, *, poll_seconds: float = POLL_SECONDS) -> None:
        """Waits until the lock is ours; tries every `poll_seconds`."""
        lock_descriptor(self._descriptor, poll_interval=poll_seconds)

    def try_take(self) -> bool:
        """Tries to take the lock without waiting; returns whether it is ours."""
        return lock_descriptor(self._descriptor, blocking=False)

    def release(self) -> None:
        """Releases the lock, and keeps the file open for the next `take`."""
        unlock_descriptor(self._descriptor)

    def close(self) -> None:
        """Closes the file, which releases the lock. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
