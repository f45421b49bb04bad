"""The masked uploads of the attempt that runs, on the coordinator's disk until its sum is shown.

Masked bytes are no secret from the coordinator, which is all that could read them. They are not synced: an attempt does
not survive the process. They go when the round ends, and whoever opens the folder again empties it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sordino_platform.durable import make_folder, map_file
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
