"""Files that survive a crash, and files that nobody else may read.

These rules are kept here, so that no other module has to repeat them:

* A file appears whole or not at all: written beside its place, fsynced, renamed over, and the folder fsynced.
* A secret file is *created* with mode 0600; it is never made private after the fact. A secret file that its group or
  others can read is refused, as OpenSSH does: somebody may already have copied the key.
* The size of a file is bounded before it is read.

    >>> write_file(folder / "charter.json", data)
    >>> read_file(folder / "charter.json", limit=4 << 20)
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from sordino_platform.machine import files
from sordino_platform.machine.locks import Lock
from sordino_privacy.errors import ConfigurationError, StorageError

PUBLIC_MODE = 0o644
SECRET_MODE = files.SECRET_MODE
FOLDER_MODE = 0o700


def make_folder(folder: Path) -> None:
    """Creates `folder` (and its parents) with mode 0700. An existing folder is not changed."""
    try:
        # Not parents=True: that would give the parents the umask's mode.
        for path in [*reversed(folder.parents), folder]:
            if not path.exists():
                path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except OSError as error:
        raise _storage("create the folder", folder, error) from error


def write_file(path: Path, *parts: bytes | memoryview, secret: bool = False, replace: bool = True) -> None:
    """Writes `parts` one after the other to `path`, durably and atomically.

    Without `replace`, an existing file is refused. Raises StorageError when the file cannot be written,
    ConfigurationError when `path` exists and must not be replaced.
    """
    write_parts(path, parts, secret=secret, replace=replace)


def write_parts(
    path: Path, parts: Iterable[bytes | memoryview], *, secret: bool = False, replace: bool = True
) -> None:
    """As `write_file`, for parts that are made one by one, for files too large for memory."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        handle = os.open(temporary, files.CREATE, SECRET_MODE if secret else PUBLIC_MODE)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(parts)
                file.flush()
                files.sync(file.fileno())
            if replace:
                temporary.replace(path)
            else:
                os.link(
                    temporary, path
                )  # unlike a rename, a link never replaces a file that another process just wrote
        finally:
            temporary.unlink(missing_ok=True)
        files.sync_folder(path.parent)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{path} exists already", hint="choose another place, or remove it"
        ) from error
    except OSError as error:
        raise _storage("write", path, error) from error


def read_file(path: Path, *, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Raises StorageError for anything else."""
    return _read(path, limit=limit, secret=False)


def map_file(path: Path, *, limit: int) -> memoryview:
    """The bytes of a regular file as a read-only memory map: pages that are not read take no memory.

    For files that are written whole and never changed in place, as `write_file` does. Raises StorageError.
    """
    try:
        with os.fdopen(os.open(path, files.READ), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= limit:
                raise StorageError(f"{path} is not a regular file of 1 to {limit} bytes")
            return memoryview(mmap.mmap(file.fileno(), status.st_size, access=mmap.ACCESS_READ))
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist") from error
    except OSError as error:
        raise _storage("read", path, error) from error


def sha256_of_file(path: Path) -> bytes:
    """The SHA-256 of a whole file of any size. Raises StorageError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise _storage("read", path, error) from error


def read_secret(path: Path, *, limit: int = 64 << 10) -> bytes:
    """The bytes of a secret file.

    Raises ConfigurationError when the file's mode or owner lets somebody else read or replace it.
    """
    return _read(path, limit=limit, secret=True)


def _read(path: Path, *, limit: int, secret: bool) -> bytes:
    try:
        # Opening a FIFO does not block; the check below then refuses it.
        with os.fdopen(os.open(path, files.READ), "rb") as file:
            status = os.fstat(file.fileno())  # of the opened file, because the name may soon mean another one
            if not stat.S_ISREG(status.st_mode):
                raise StorageError(f"{path} is not a regular file")
            if secret:
                _require_private(path, status)
            if status.st_size > limit:
                raise StorageError(f"{path} is larger than the {limit} bytes it may have")
            # Reads the size that it had when it was opened: a read of `limit` bytes would take that much memory for a
            # small file too.
            data = file.read(status.st_size or limit + 1)
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist") from error
    except OSError as error:
        raise _storage("read", path, error) from error
    if len(data) > limit:
        raise StorageError(f"{path} is larger than the {limit} bytes it may have")
    return data


def _require_private(path: Path, status: os.stat_result) -> None:
    if files.open_to_others(status):
        raise ConfigurationError(
            f"{path} can be read or changed by other users of this machine",
            hint=f"take the key as copied and replace it; if you are sure it was not: chmod 600 {path}",
        )
    if files.is_anothers(status):
        raise ConfigurationError(f"{path} belongs to another user", hint=f"chown it to yourself: {path}")


def move_folder(folder: Path, target: Path) -> None:
    """Moves a folder with durable files to its final path, whole or not at all. Raises StorageError."""
    try:
        folder.rename(target)
        files.sync_folder(target.parent)
    except OSError as error:
        raise _storage("write", target, error) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time use the folder, by a lock on `.lock`."""
    try:
        lock = Lock(folder / ".lock")
    except OSError as error:
        raise _storage("lock", folder, error) from error
    with lock:
        lock.take()
        yield


def _storage(action: str, path: Path, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"cannot {action} {path}: the disk is full", hint="free some space and try again")
    return StorageError(f"cannot {action} {path}: {error.strerror or type(error).__name__}")
