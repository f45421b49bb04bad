"""A lock on a file: held by one process at a time, dropped by the kernel when that process ends, however it ends.

    with Lock(folder / ".lock") as lock:
        lock.take()
        ...

`flock` on Linux and macOS, `LockFileEx` on Windows, both by the library filelock. The file stays when the lock is let
go: removing it would give two processes a lock each on two files of one name.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

from sordino_platform.machine.files import SECRET_MODE

POLL_SECONDS = 0.02


class Lock:
    """An open lock file. Raises OSError where it cannot be opened."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Opens `path`, and makes it with mode 0600 where it is not there and `create` is set."""
        # Python opens every file so that no child inherits it; a lock that a child kept would outlive its holder.
        self._descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), SECRET_MODE)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, *, poll_seconds: float = POLL_SECONDS) -> None:
        """Waits until the lock is ours; asks again each `poll_seconds`."""
        lock_descriptor(self._descriptor, poll_interval=poll_seconds)

    def try_take(self) -> bool:
        """Whether the lock is ours now. Does not wait."""
        return lock_descriptor(self._descriptor, blocking=False)

    def release(self) -> None:
        """Lets go, and keeps the file open for the next `take`."""
        unlock_descriptor(self._descriptor)

    def close(self) -> None:
        """Closes the file, and with it lets go. Again is nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
