"""Epochs that wait for a person: signed by the pinned root, not yet in force in this folder.

A coordinator passes new epochs on. An epoch that the folder's owner must look at stays in `waiting/` until `sordino
charter accept FOLDER` accepts it. Nothing else reads it or acts on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sordino_platform.charter.document import MAX_CHARTER_BYTES
from sordino_platform.charter.signed import SignedCharter
from sordino_platform.charter.store import CharterStore
from sordino_platform.durable import make_folder, read_file, write_file
from sordino_privacy.errors import ConfigurationError

WAITING = "waiting"
MOST = 64
"""The most epochs kept waiting. A folder that lacks more keeps the oldest of them."""


def keep_waiting(folder: Path, offered: Sequence[bytes], charters: CharterStore) -> None:
    """Keeps epochs that `charters` verified as its next ones (`with_offered`) until a person decides. Raises
    StorageError."""
    place, head = folder / WAITING, charters.head().charter.epoch
    for data in offered:
        epoch = SignedCharter.parse(data, root=charters.root).charter.epoch
        if head < epoch <= head + MOST:
            make_folder(place)
            path = place / f"charter-{epoch:06d}.json"
            if not path.exists() or read_file(path, limit=MAX_CHARTER_BYTES) != data:
                write_file(path, data)


def waiting(folder: Path, charters: CharterStore) -> tuple[bytes, ...]:
    """The epochs that wait in `folder`, in order, without those that were accepted meanwhile or do not follow."""
    head = charters.head().charter.epoch
    found: list[bytes] = []
    for path in sorted((folder / WAITING).glob("charter-??????.json")):
        data = read_file(path, limit=MAX_CHARTER_BYTES)
        try:
            ahead = SignedCharter.parse(data, root=charters.root, what=str(path)).charter.epoch > head
            charters.with_offered([*found, data])
        except (ConfigurationError, ValueError):
            continue
        if ahead:
            found.append(data)
    return tuple(found)


def clear_waiting(folder: Path, charters: CharterStore) -> None:
    """Removes waiting epochs that are now in force."""
    head = charters.head().charter.epoch
    for path in (folder / WAITING).glob("charter-??????.json"):
        if int(path.stem.removeprefix("charter-")) <= head:
            path.unlink(missing_ok=True)
