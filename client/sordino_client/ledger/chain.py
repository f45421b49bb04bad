"""Durable rows, each bound to all before it.

    row digest = SHA-256( "sordino-ledger/1\\n" previous sequence time len(kind) kind body )

SQLite in WAL mode with synchronous=FULL: when `append` returns, the row survives a power cut. Beside the database lies
a *mark*, the sequence number and digest of the newest row, written after each row. A database that is older than its
mark was rolled back; a mark without a database means that the database was deleted. Restoring both from one backup
defeats the mark; then the *witness* decides: the head that the coordinator last heard from this member.

One process holds the ledger at a time (flock): two trainers with one budget would each believe that the rest of it is
theirs.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sordino_platform.durable import make_folder, read_file, write_file
from sordino_platform.machine.files import make_private
from sordino_platform.machine.locks import Lock
from sordino_privacy.errors import StorageError

VERSION = 3  # 2: rows that give a charge back; 3: rows with two noises, of which version 2 would count one
DATABASE = "ledger.sqlite"
MARK = "ledger.mark"
LOCK = "ledger.lock"
MAX_BODY = 1 << 16
_GENESIS = bytes(32)
_SCHEMA = """
CREATE TABLE row (
    sequence INTEGER PRIMARY KEY CHECK (sequence > 0),
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL CHECK (length(body) <= 65536),
    digest BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT;
CREATE TRIGGER row_is_never_changed BEFORE UPDATE ON row BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER row_is_never_removed BEFORE DELETE ON row BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
"""
_HINT = "do not restore or delete a ledger; `sordino client ledger recover` charges what is missing, in the worst case"


class LedgerHeldError(StorageError):
    """Another process has the ledger: two trainers would each believe that the rest of the budget is theirs."""


class LedgerRefusesError(StorageError):
    """The ledger does not open, or is not whole: nothing may be trained before a person acts. Completions go on without
    it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHead:
    """The newest row: how many rows there are, and the digest that stands for all of them."""

    sequence: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. `time` is in nanoseconds since 1970; `body` holds the fields of its `kind`."""

    sequence: int
    time: int
    kind: str
    body: dict[str, object]


class Chain:
    """The open ledger file of this process. Raises StorageError for any fault in it."""

    def __init__(self, folder: Path, *, witness: ChainHead | None = None, recovering: bool = False) -> None:
        """With `recovering` it opens although mark or witness contradict it; its own rows must still follow one
        another."""
        make_folder(folder)
        self.folder = folder
        self._lock = _take_lock(folder / LOCK)
        try:
            self.lost = _read_mark(folder) if recovering else None
            self._connection = _connect(folder, recovering=recovering)
            self._head = verify(self._connection, folder, witness, recovering=recovering)
        except BaseException:
            self._lock.close()
            raise

    @property
    def head(self) -> ChainHead:
        return self._head

    def rows(self) -> Iterator[Row]:
        """All rows, oldest first."""
        return _rows(self._connection)

    def digest_at(self, sequence: int) -> bytes | None:
        """The digest of a row, or None where there is no such row; row 0 is the beginning."""
        if sequence == 0:
            return _GENESIS
        try:
            row = self._connection.execute(
                "SELECT digest FROM row WHERE sequence = ?", (sequence,)
            ).fetchone()
        except sqlite3.Error as error:
            raise _storage("read", error) from error
        return None if row is None else bytes(row[0])

    def append(self, kind: str, body: dict[str, object], *, time: int) -> Row:
        """Adds a row. When this returns it is durable; when it raises StorageError nothing was added."""
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        if len(text) > MAX_BODY:
            raise StorageError("a ledger row is larger than a ledger row can be")
        sequence = self._head.sequence + 1
        digest = _digest(self._head.digest, sequence, time, kind, text)
        try:
            with self._connection:
                self._connection.execute(
                    "INSERT INTO row VALUES (?, ?, ?, ?, ?)", (sequence, time, kind, text, digest)
                )
        except sqlite3.Error as error:
            raise _storage("write", error) from error
        self._head = ChainHead(sequence=sequence, digest=digest)
        return Row(sequence=sequence, time=time, kind=kind, body=body)

    def mark(self) -> None:
        """Moves the high-water mark up to the head. To be late is safe: a database may be newer than its mark."""
        mark = {"sequence": self._head.sequence, "digest": self._head.digest.hex()}
        write_file(self.folder / MARK, json.dumps(mark).encode(), secret=True)

    def close(self) -> None:
        """Lets another process open the ledger. Repeating it changes nothing."""
        self._connection.close()
        self._lock.close()


def read_rows(folder: Path) -> list[Row]:
    """The verified rows of a ledger that another process may hold. Raises StorageError when there is none."""
    if not (folder / DATABASE).exists():
        raise StorageError(f"there is no ledger in {folder}", hint="it is made when this member first trains")
    with closing(sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True)) as connection:
        verify(connection, folder, None)
        return list(_rows(connection))


def first_digest(folder: Path) -> bytes | None:
    """The digest of the first row of the ledger in `folder`, which no other ledger has; None if there is no ledger."""
    if not (folder / DATABASE).exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT digest FROM row WHERE sequence = 1").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else bytes(row[0])


def verify(
    connection: sqlite3.Connection, folder: Path, witness: ChainHead | None, *, recovering: bool = False
) -> ChainHead:
    """Recomputes the whole chain and compares it with the mark and the witness. Returns the head. Raises StorageError
    if a row does not follow from the one before, or if the mark or the witness is not in the chain."""
    known = [] if recovering else [head for head in (_read_mark(folder), witness) if head is not None]
    digest, sequence, seen = _GENESIS, 0, {0: _GENESIS}
    wanted = {head.sequence for head in known}
    try:
        for found, time, kind, body, stored in connection.execute(
            "SELECT sequence, time, kind, body, digest FROM row ORDER BY sequence"
        ):
            sequence += 1
            digest = _digest(digest, sequence, time, kind, body)
            if found != sequence or stored != digest:
                raise StorageError(f"the privacy ledger was altered at row {sequence}", hint=_HINT)
            if sequence in wanted:
                seen[sequence] = digest
    except sqlite3.Error as error:
        raise _storage("read", error) from error
    for head in known:
        if head.sequence > sequence:
            raise StorageError(
                f"the privacy ledger was rolled back: it has {sequence} rows and had {head.sequence}",
                hint=_HINT,
            )
        if seen[head.sequence] != head.digest:
            raise StorageError("the privacy ledger was replaced by another one", hint=_HINT)
    if not known and sequence > 1 and not recovering:
        # The first row's mark may be lost to a crash; every later row has one before it.
        raise StorageError("the privacy ledger's high-water mark was deleted", hint=_HINT)
    return ChainHead(sequence=sequence, digest=digest)


def _connect(folder: Path, *, recovering: bool = False) -> sqlite3.Connection:
    path = folder / DATABASE
    fresh = not path.exists()
    if fresh and (folder / MARK).exists() and not recovering:
        raise StorageError("the privacy ledger was deleted: its high-water mark is still there", hint=_HINT)
    try:
        if fresh:
            make_private(path)
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA fullfsync=ON")  # macOS: past the drive's cache; nothing elsewhere
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            # One transaction: a crash leaves either no schema or all of it.
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
        elif version in (1, 2):
            # Its rows mean what they meant. An older sordino must not open it from here on: it would refuse later rows.
            connection.execute(f"PRAGMA user_version={VERSION}")
        elif version != VERSION:
            connection.close()
            raise StorageError(
                f"the privacy ledger has format {version}, this sordino knows {VERSION}",
                hint="update sordino",
            )
    except OSError as error:
        raise StorageError(f"cannot create the privacy ledger in {folder}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise _storage("open", error) from error
    return connection


def _rows(connection: sqlite3.Connection) -> Iterator[Row]:
    try:
        for sequence, time, kind, body in connection.execute(
            "SELECT sequence, time, kind, body FROM row ORDER BY sequence"
        ):
            yield Row(sequence=sequence, time=time, kind=kind, body=json.loads(body))
    except sqlite3.Error as error:
        raise _storage("read", error) from error


def _digest(previous: bytes, sequence: int, time: int, kind: str, body: str) -> bytes:
    name = kind.encode()
    numbers = sequence.to_bytes(8) + time.to_bytes(8) + len(name).to_bytes(4)
    return hashlib.sha256(b"sordino-ledger/1\n" + previous + numbers + name + body.encode()).digest()


def _read_mark(folder: Path) -> ChainHead | None:
    path = folder / MARK
    if not path.exists():
        return None
    try:
        raw = json.loads(read_file(path, limit=1024))
        return ChainHead(sequence=int(raw["sequence"]), digest=bytes.fromhex(raw["digest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError("the privacy ledger's high-water mark is damaged", hint=_HINT) from error


def _take_lock(path: Path) -> Lock:
    try:
        lock = Lock(path)
        taken = lock.try_take()
    except OSError as error:
        raise StorageError(f"cannot open the ledger's lock {path}: {error.strerror}") from error
    if not taken:
        lock.close()
        raise LedgerHeldError(
            f"another process holds the privacy ledger in {path.parent}",
            hint="stop the other `sordino client` of this member first",
        )
    return lock


def _storage(action: str, error: sqlite3.Error) -> StorageError:
    if "full" in str(error):
        return StorageError(
            "the privacy ledger cannot be written: the disk is full", hint="free some space; nothing was lost"
        )
    return StorageError(f"cannot {action} the privacy ledger: {error}")
