"""How a file is opened, kept from others, and brought to the disk.

| | Linux | macOS | Windows |
| --- | --- | --- | --- |
| private | mode 0600, owner | mode 0600, owner | the access list of its folder, which a folder of mode 0700 sets |
| durable file | fsync | F_FULLFSYNC: fsync alone leaves it in the drive's cache | fsync (FlushFileBuffers) |
| durable rename | fsync of the folder | fsync of the folder | none: NTFS journals it, in its own time |
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

SECRET_MODE: Final = 0o600
OTHERS: Final = 0o077

# O_BINARY: Windows would translate line ends. O_NONBLOCK: opening a FIFO must not block. O_NOCTTY: opening a terminal
# must not make it our controlling terminal. Each is 0 on a system without it. Python itself keeps children from
# inheriting a file.
BINARY: Final[int] = getattr(os, "O_BINARY", 0)
READ: Final[int] = os.O_RDONLY | BINARY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
CREATE: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
APPEND: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_APPEND | BINARY
NO_LINK: Final[int] = getattr(os, "O_NOFOLLOW", 0)
FOLDER: Final[int] = getattr(os, "O_DIRECTORY", 0)


def cache_folder() -> Path:
    """The user's cache folder, for files that can be fetched again: XDG's, `~/Library/Caches` on macOS, %LOCALAPPDATA%
    on Windows."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    named = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(named) if named else Path.home() / ".cache"


def make_private(path: Path) -> None:
    """Makes `path` an empty file of mode 0600, if nothing exists there. A symbolic link is refused. Raises OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | BINARY | NO_LINK, SECRET_MODE))


def open_to_others(status: os.stat_result) -> bool:
    """Whether a file's mode lets its group or others read or change it.

    Windows has no such mode: there the folder's access list keeps others out, and the result is False.
    """
    return os.name == "posix" and bool(status.st_mode & OTHERS)


def is_anothers(status: os.stat_result) -> bool:
    """Whether a file belongs to neither this user nor the administrator. Always False on Windows, which does not
    say."""
    return hasattr(os, "geteuid") and status.st_uid not in (os.geteuid(), 0)


def sync(descriptor: int) -> None:
    """Returns when all data written to `descriptor` is on the disk, not only in the cache of the system or of the
    drive."""
    try:
        import fcntl

        full: int = fcntl.F_FULLFSYNC  # type: ignore[attr-defined]  # macOS alone has it
    except (ImportError, AttributeError):
        os.fsync(descriptor)
        return
    try:
        fcntl.fcntl(descriptor, full)
    except OSError:
        os.fsync(descriptor)  # a file system that supports only this: a network's, or a foreign disk's


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` durable. Does nothing on Windows, whose file system journals renames itself."""
    if not FOLDER:
        return
    descriptor = os.open(folder, os.O_RDONLY | FOLDER)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
