"""The masked uploads of the attempt that runs: all of them on the coordinator's disk until its sum is shown, and on a
member's its own, until it has said what it uploaded.

Masked bytes are no secret from the coordinator, and a member's update itself lies beside them. They are not synced: an
attempt does not survive the coordinator's process, and a member without its copy masks its update again. A
coordinator's go when the round ends, and whoever opens the folder again empties it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from sordino_platform.durable import make_folder, map_file
from sordino_platform.machine import files
from sordino_privacy.errors import StorageError

MAX_UPLOAD_BYTES = 5 << 30


class UploadFolder:
    """A keeper (`sordino_privacy.secagg.Keeper`) of one attempt. Names are charter names: safe in paths."""

    def __init__(self, folder: Path) -> None:
        """Empties `folder`. Raises StorageError."""
        forget_uploads(folder)
        make_folder(folder)
        self._folder = folder

    def put(self, sender: str, upload: memoryview) -> bool:
        """Writes it to a file. Raises StorageError."""
        path = self._folder / f"{sender}.bin"
        try:
            path.touch(mode=0o600)
            path.write_bytes(upload)
        except OSError as error:
            raise StorageError(
                f"cannot keep an upload: {error.strerror}", hint="free some space; the last release is intact"
            ) from error
        return False

    def get(self, sender: str) -> memoryview:
        """The bytes, mapped."""
        return map_file(self._folder / f"{sender}.bin", limit=MAX_UPLOAD_BYTES)


def forget_uploads(folder: Path) -> None:
    """Removes what an attempt kept in `folder`, if there is any."""
    shutil.rmtree(folder, ignore_errors=True)


class SentUpload:
    """A member's own upload as it was sent: one file, there only when all of it went out."""

    def __init__(self, path: Path) -> None:
        """Touches nothing; the folder of `path` is there when `keeping` is asked."""
        self._path = path

    def keeping(self, frames: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """`frames`, which are kept once the last was taken. A disk that refuses keeps none, and stops nothing."""
        # Never written in place: whoever reads the copy of an earlier attempt has it mapped.
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}")
        copy = _created(temporary)
        try:
            for frame in frames:
                copy = _continued(copy, frame)
                yield frame
            if copy is not None:
                with suppress(OSError):
                    copy.close()
                    temporary.replace(self._path)
        finally:
            if copy is not None:
                copy.close()
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def read(self) -> bytes | memoryview:
        """What was kept, mapped; nothing if nothing was."""
        try:
            return map_file(self._path, limit=MAX_UPLOAD_BYTES)
        except StorageError:
            return b""

    def forget(self) -> None:
        """Removes it, if it is there."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _created(path: Path) -> IO[bytes] | None:
    try:
        return os.fdopen(os.open(path, files.CREATE, files.SECRET_MODE), "wb", buffering=0)
    except OSError:
        return None


def _continued(copy: IO[bytes] | None, frame: bytes | memoryview) -> IO[bytes] | None:
    """The copy with one frame more; None, and closed, when the disk takes no more."""
    if copy is None:
        return None
    try:
        if copy.write(frame) == len(frame):
            return copy
    except OSError:
        pass
    copy.close()
    return None
