"""What a coordinator gives to a machine that follows it: one stream, in an order that is safe to stop at any byte.

A tar stream. The database first, as SQLite's own backup makes it beside a running coordinator; then orders, settings
and tenure; then what only grows, from where the follower stands: charters, the audit log, releases with their records,
proofs. A release is in it only when the database in the same stream commits it, or a command made it.

No key is in it, and no update: what a running round holds in memory is lost with its machine, as in any crash.
"""

from __future__ import annotations

import io
import re
import secrets
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, urlencode

from sordino_coordinator.control.audit import FILE as AUDIT_FILE
from sordino_coordinator.control.audit import FOLDER as AUDIT_FOLDER
from sordino_platform.durable import sha256_of_file
from sordino_platform.identity import open_charters
from sordino_platform.release import ReleaseStore
from sordino_privacy.errors import StorageError, UsageError

STATE, TAIL, END = "state.sqlite", "audit.tail", "end"
BLOCK_BYTES = 256 << 10  # what is sent at a time
COPY = ".copy-"  # the database, copied, while it is sent
SMALL = ("orders.json", "coordinator.toml", "tenure.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Where a follower stands: its newest release and epoch (-1 and 0: none), the bytes of its audit log, and the
    SHA-256 of its database in hexadecimal."""

    release: int = -1
    epoch: int = 0
    audit: int = 0
    state: str = ""

    def query(self) -> str:
        """As the query of an address."""
        return urlencode({one.name: getattr(self, one.name) for one in fields(self)})

    @classmethod
    def parse(cls, query: str) -> Stand:
        """Raises UsageError for anything that `query` would not have made."""
        given = parse_qs(query, keep_blank_values=True)
        if set(given) != {one.name for one in fields(cls)} or any(
            len(values) != 1 for values in given.values()
        ):
            raise UsageError("a copy is asked for with release, epoch, audit and state, once each")
        release, epoch, audit, state = (given[one.name][0] for one in fields(cls))
        if not all(re.fullmatch(r"-?\d{1,12}", text, re.ASCII) for text in (release, epoch, audit)):
            raise UsageError("release, epoch and audit are numbers")
        if re.fullmatch(r"[0-9a-f]{64}|", state) is None:
            raise UsageError("state is a SHA-256 in hexadecimal, or empty")
        return cls(release=max(-1, int(release)), epoch=int(epoch), audit=max(0, int(audit)), state=state)


def write_copy(folder: Path, stand: Stand, out: IO[bytes]) -> None:
    """Writes to `out` what a follower that stands at `stand` lacks. Raises StorageError, ConfigurationError, and
    OSError when the other end goes away."""
    with tarfile.open(fileobj=out, mode="w|", bufsize=BLOCK_BYTES, format=tarfile.PAX_FORMAT) as tar:
        committed = _write_state(folder, stand, tar)
        for name in SMALL:
            _add(tar, name, folder / name)
        for path in sorted((folder / "charters").glob("charter-*.json")):
            if int(path.stem.removeprefix("charter-")) > stand.epoch:
                _add(tar, f"charters/{path.name}", path)
        _write_tail(folder / AUDIT_FOLDER / AUDIT_FILE, stand.audit, tar)
        for number in _releases(folder, after=stand.release, committed=committed):
            record = folder / "transcript" / f"{number:06d}.bin"
            _add(tar, f"transcript/{record.name}", record)
            place = folder / "releases" / f"{number:06d}"
            for path in sorted(path for path in place.rglob("*") if path.is_file()):
                _add(tar, f"releases/{place.name}/{path.relative_to(place)}", path)
        for path in sorted((folder / "proofs").glob("*.bin")):
            _add(tar, f"proofs/{path.name}", path)
        tar.addfile(tarfile.TarInfo(END))  # a stream that was cut between two files ends without it


def forget_copies(folder: Path) -> None:
    """Removes what a process that was killed while it sent a copy has left. Only who holds the folder's lock may."""
    for left in folder.glob(f"{COPY}*"):
        left.unlink(missing_ok=True)


def _write_state(folder: Path, stand: Stand, tar: tarfile.TarFile) -> int:
    """Adds the database unless the follower has it; returns the newest release that it commits."""
    copy = folder / f"{COPY}{secrets.token_hex(6)}.sqlite"
    copy.touch(mode=0o600)
    try:
        with (
            closing(sqlite3.connect(f"file:{folder / STATE}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy, isolation_level=None)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, whole by itself
            (committed,) = target.execute(
                "SELECT max(release) FROM rounds WHERE outcome='completed'"
            ).fetchone()
        if sha256_of_file(copy).hex() != stand.state:
            _add(tar, STATE, copy)
    except sqlite3.Error as error:
        raise StorageError(f"the database of rounds cannot be copied: {error}") from error
    finally:
        copy.unlink(missing_ok=True)
    return 0 if committed is None else int(committed)


def _write_tail(path: Path, have: int, tar: tarfile.TarFile) -> None:
    """The lines of the audit log that the follower lacks: only whole ones."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(have)
        data = file.read()
    data = data[: data.rfind(b"\n") + 1]
    if data:
        entry = tarfile.TarInfo(TAIL)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))


def _releases(folder: Path, *, after: int, committed: int) -> Iterator[int]:
    store = ReleaseStore(folder / "releases", open_charters(folder))
    number = after + 1
    while (store.folder / f"{number:06d}").exists():
        if number > committed and store.read(number).round is not None:
            return  # a round's, and the row that commits it is not in this copy
        yield number
        number += 1


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    """One file as it is now; one that is not there, or was pruned in this moment, is left out."""
    try:
        with path.open("rb") as file:
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            tar.addfile(entry, file)
    except FileNotFoundError:
        return
