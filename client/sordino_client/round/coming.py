"""The manifests of a long history that were sent to a member before the release that they lead to.

<member>/coming/
  000000.bin 000341.bin …   signed manifests, each file a part, by the number of its first

Each manifest was verified in its place in the chain before it was kept, and is verified again when it is read after a
restart. None of them is one of the member's releases yet: they become releases together with the newest one, whose
vector its round's members signed (adoption.py). Until then they say where the member goes on, and they bind it: a
history that differs from them, or ends before them, is refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sordino_platform.catching_up import MAX_PART_BYTES, framed, unframed
from sordino_platform.durable import make_folder, read_file, write_file
from sordino_platform.machine.files import sync_folder
from sordino_platform.release.manifest import Charters, SignedManifest, require_next
from sordino_platform.telemetry import log
from sordino_privacy.errors import SordinoError
from sordino_privacy.secagg import PolicyError

MOST_BYTES: Final = 1 << 30
"""The most bytes of manifests that may wait: those of eighty thousand releases of a thousand members. A coordinator
that sends more is filling the disk."""


class ComingManifests:
    """One member's. Used by one thread at a time: the one that answers the coordinator."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._chain: list[SignedManifest] = []
        self._bytes = 0
        self._read = False

    def after(self, held: Sequence[SignedManifest], charters: Charters) -> tuple[SignedManifest, ...]:
        """The kept manifests that follow `held`, the member's own releases; verified.

        Raises StorageError. A file that no longer verifies is removed with all files behind it: their manifests will be
        sent again.
        """
        if not self._read:
            self._load(held, charters)
            self._read = True
        return tuple(signed for signed in self._chain if signed.manifest.number >= len(held))

    def take(self, held: Sequence[SignedManifest], part: Sequence[bytes], charters: Charters) -> None:
        """Verifies each manifest of `part` behind `held` and what is here, and keeps them, durably. Raises
        ConfigurationError for one that may not follow, PolicyError for too many, StorageError; nothing has changed
        then."""
        chain = [*held, *self.after(held, charters)]
        first = len(chain)
        size = self._bytes + sum(map(len, part))
        if size > MOST_BYTES:
            raise PolicyError(f"the coordinator brings a history of more than {MOST_BYTES >> 20} MiB")
        for data in part:
            signed = SignedManifest.parse(data)
            require_next(chain, signed, charters)
            chain.append(signed)
        make_folder(self._folder)
        write_file(self._folder / f"{first:06d}.bin", framed(part))
        self._chain.extend(chain[first:])
        self._bytes = size

    def clear(self) -> None:
        """Removes all of them, once they have become releases. Raises StorageError."""
        self._chain, self._bytes = [], 0
        if self._folder.exists():
            shutil.rmtree(self._folder)
            sync_folder(self._folder.parent)

    def _load(self, held: Sequence[SignedManifest], charters: Charters) -> None:
        chain = list(held)
        paths = sorted(self._folder.glob("*.bin"))
        for index, path in enumerate(paths):
            try:
                part = unframed(read_file(path, limit=MAX_PART_BYTES))
                for data in part:
                    signed = SignedManifest.parse(data, what=str(path))
                    if signed.manifest.number >= len(held):
                        require_next(chain, signed, charters)
                        chain.append(signed)
            except SordinoError as error:
                log().warning("coming_manifests_removed", error=error.message)
                for damaged in paths[index:]:
                    damaged.unlink()
                break
            self._bytes += sum(map(len, part))
        self._chain = chain[len(held) :]
