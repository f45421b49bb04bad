"""Where the coordinator keeps a reply while it arrives and until it is taken: memory for what is small, else a file.

Memory that all members share could be held by a few that send slowly, and everyone else would wait for them. So nobody
shares anything: each member has at most one reply under way, of at most the bytes that were asked of it; up to
`MEMORY_BYTES` of it lie in memory, all of a larger one in a file of its own. A slow sender keeps nothing from anyone.

The file has no name: nobody else can open it, and a killed process leaves nothing behind. Its payload is mapped, so
its pages are the kernel's to keep or to write out.
"""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import Final

from sordino_platform.link.limits import CHUNK_BYTES
from sordino_platform.link.messages import MemoryPayload, Storage

MEMORY_BYTES: Final = CHUNK_BYTES


class OnDisk:
    """A payload in a file without a name in `folder`. Raises OSError when the disk is full or the folder is gone."""

    def __init__(self, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - open until `whole` or `drop`

    def add(self, data: bytes) -> None:
        """Appends `data`."""
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def whole(self) -> memoryview:
        """All of it, read-only. The file lives as long as the view."""
        with self._file:
            return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))

    def drop(self) -> None:
        """Frees it."""
        self._file.close()


def storage_for(total: int, folder: Path | None) -> Storage:
    """Where a reply of `total` bytes is kept. Raises OSError."""
    return MemoryPayload() if total <= MEMORY_BYTES else OnDisk(folder)
