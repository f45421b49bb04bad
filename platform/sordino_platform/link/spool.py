"""Where the coordinator stores a reply from its first byte until it is used: small ones in memory, others in a file.

If all members shared a buffer, a few slow senders could fill it and all others would have to wait. So nothing is
shared: each member has at most one reply in transfer, with at most the bytes that the request allows. A reply of up to
`MEMORY_BYTES` is stored in memory, a larger one completely in its own file. A slow sender delays nobody else.

The file has no name, so nobody else can open it, and a killed process leaves no file. Its payload is memory-mapped, so
the kernel decides which pages stay in memory.
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
    """The storage for a reply of `total` bytes. Raises OSError."""
    return MemoryPayload() if total <= MEMORY_BYTES else OnDisk(folder)
