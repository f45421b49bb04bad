"""The tables that rounds and members are kept in, and how an older file is taken over in place.

Each schema is the one before and one more step, so that a file of any older version becomes one of this version in one
transaction. A file of a newer version is refused.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sordino_privacy.errors import StorageError

SCHEMA = """
CREATE TABLE rounds (
    round INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    started REAL NOT NULL,
    finished REAL,
    attempts INTEGER NOT NULL DEFAULT 1,
    release INTEGER,
    loss REAL,
    members TEXT NOT NULL DEFAULT '[]',
    dropped TEXT NOT NULL DEFAULT '{}',
    phases TEXT NOT NULL DEFAULT '{}',
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
# What each schema has beyond the one before: an older file is taken over in place.
MEMBERS = """
CREATE TABLE members (
    name TEXT PRIMARY KEY,
    seen REAL NOT NULL,
    certificate_expires REAL NOT NULL,
    epsilon REAL
) STRICT;
"""
# What each member said last: why it was not ready (empty: it was), and the newest signed head of its ledger.
STANDINGS = """
CREATE TABLE standings (
    name TEXT PRIMARY KEY,
    unready TEXT NOT NULL DEFAULT '',
    generation INTEGER NOT NULL DEFAULT -1,
    sequence INTEGER NOT NULL DEFAULT -1,
    head BLOB NOT NULL DEFAULT x''
) STRICT;
"""
# Names apart from the rest, and an index by which the newest release and the rounds of an outcome are found.
ATTENDANCE = """
CREATE TABLE attendance (
    round INTEGER PRIMARY KEY,
    members TEXT NOT NULL,
    dropped TEXT NOT NULL
) STRICT;
INSERT INTO attendance SELECT round, members, dropped FROM rounds
    WHERE round > (SELECT max(round) - 1000 FROM rounds) AND (members != '[]' OR dropped != '{}');
ALTER TABLE rounds ADD COLUMN included INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rounds ADD COLUMN departed INTEGER NOT NULL DEFAULT 0;
UPDATE rounds SET included = json_array_length(members), departed = (SELECT count(*) FROM json_each(dropped));
ALTER TABLE rounds DROP COLUMN members;
ALTER TABLE rounds DROP COLUMN dropped;
CREATE INDEX rounds_by_outcome ON rounds (outcome, release);
"""
# What a member reports as its epsilon if all others collude, where noise comes in shares.
COLLUSION = "ALTER TABLE members ADD COLUMN epsilon_if_others_collude REAL;"
STEPS = (SCHEMA, MEMBERS, STANDINGS, ATTENDANCE, COLLUSION)
SCHEMA_VERSION = len(STEPS)


def open_tables(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Opens the file, or makes it: a connection whose writes are on the disk when they return, and one whose writes are
    with the next of those.

    Raises StorageError when the file is damaged or from a newer version.
    """
    try:
        path.touch(mode=0o600)
        database = _connected(path, synchronous="FULL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version < SCHEMA_VERSION:
            missing = " ".join(STEPS[version:])
            database.executescript(
                f"BEGIN IMMEDIATE; {missing} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
            if version:
                database.execute("VACUUM")  # the names of old rounds were most of the file
        elif version != SCHEMA_VERSION:
            raise StorageError(
                f"{path} was written by another version of sordino (schema {version})",
                hint="upgrade the coordinator to at least the version that wrote it",
            )
        return database, _connected(path, synchronous="NORMAL")
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"cannot open {path}: {error}", hint="check the disk and the file's owner"
        ) from error


def _connected(path: Path, *, synchronous: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={synchronous}")
    return database
