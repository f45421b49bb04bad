"""Checks that the base on this machine is still the one that the charter names. The base is read whole only after a
file has changed.

FOLDER/base.json has the digest that was found and what each file looked like then: size, times of change, inode. While
they look the same, nothing is read. A change that leaves all of these as they were is found by the training, which
reads the whole base before each round.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from sordino_platform.bases.registry import digest_at
from sordino_platform.canonical import Digest, Document, decode, encode
from sordino_platform.durable import read_file, write_file
from sordino_privacy.errors import ConfigurationError, StorageError

NOTE = "base.json"
MAX_NOTE_BYTES = 1 << 20


class File(Document):
    """What a file looks like without reading it; times in nanoseconds since 1970."""

    name: str = Field(max_length=4096)
    size: int
    modified: int
    changed: int
    inode: int


class SeenBase(Document):
    """The base as it was when it was last read."""

    place: str = Field(max_length=4096)
    digest: Digest
    files: tuple[File, ...] = Field(max_length=4096)


def require_same_base(folder: Path, place: Path, base_sha256: str) -> None:
    """Raises ConfigurationError when the base in `place` is not the one with this digest (hexadecimal), or StorageError
    when it cannot be read; `folder` is the member's."""
    files = files_of(place)
    seen = _read(folder)
    if seen is None or (seen.place, seen.files) != (str(place), files):
        seen = SeenBase(place=str(place), digest=bytes.fromhex(digest_at(place)), files=files)
        write_file(folder / NOTE, encode(seen), secret=True)
    if seen.digest.hex() != base_sha256:
        raise ConfigurationError(
            f"the base model in {place} is not the one that the charter names: it was changed or damaged",
            hint="fetch the very files that the federation was founded with",
        )


def files_of(place: Path) -> tuple[File, ...]:
    """What the files of a base, a folder or one file, look like now. Raises StorageError."""
    try:
        found = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
        return tuple(
            File(
                name=path.name if path == place else str(path.relative_to(place)),
                size=status.st_size,
                modified=status.st_mtime_ns,
                changed=status.st_ctime_ns,
                inode=status.st_ino,
            )
            for path, status in ((path, path.stat()) for path in found)
        )
    except OSError as error:
        raise StorageError(f"cannot look at the base model in {place}: {error.strerror}") from error


def _read(folder: Path) -> SeenBase | None:
    try:
        return decode(
            SeenBase,
            read_file(folder / NOTE, limit=MAX_NOTE_BYTES),
            limit=MAX_NOTE_BYTES,
            what=str(folder / NOTE),
        )
    except (StorageError, ConfigurationError):
        return None  # none yet, or of another version: the base is read once more
