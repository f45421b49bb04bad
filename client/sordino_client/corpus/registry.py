"""Remembers which unit a file belongs to, across versions, renames and runs.

The privacy unit is a cluster of files, and a promise about a unit holds over all runs only if a file stays in its unit.
So a member keeps this registry beside its ledger. It holds digests, sketches and names of files; never text.

The rule is one sentence: *units are the connected components of a graph that only grows.* Its nodes are texts and
names; its edges are

* a text stands, or once stood, under a name (versions: an edited file keeps its name);
* two texts are near-duplicates, Jaccard index at least 0.7 (renames, copies, forks: a moved file keeps its text);
* whatever was connected before.

What follows, and is tested: reading twice changes nothing; a file keeps its unit through any edit and through any
rename that leaves 0.7 of it; files that once shared a unit share it for ever. When a new file connects two units they
become one, under the identity of the older. Units never split. Errors lie on the safe side: a name that is reused for
something else makes one unit larger than need be, never two out of one.

Units that were trained on apart must not be trained on as one: what is then one unit would have entered every earlier
round several times, each time charged as one. So the registry remembers how many trained units each unit holds; one
that holds two or more is *overgrown* and is left out of every further round. What is trained on therefore entered each
earlier round at most once, whatever was renamed, copied or joined, and the ledger's bound holds for it.

An identity is the first 16 bytes, in hex, of a hash of the smallest digest the unit had when it was new: it depends on
content alone, tells nothing without the content, and never leaves the machine.

The file grows by about 0.7 kB for each new version of a file that is read.
"""

from __future__ import annotations

import hashlib
import secrets as randomness
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from sordino_client.corpus.corpus import SourceFile
from sordino_client.corpus.similarity import (
    PERMUTATIONS,
    SKETCH_VERSION,
    Sketches,
    clusters,
    near_duplicates,
    sketch,
)
from sordino_platform.machine.files import make_private
from sordino_privacy.errors import StorageError

_VERSION = 2
_LABEL = b"sordino/corpus/unit/v1\n"
_SCHEMA = """
CREATE TABLE dataset (identity TEXT NOT NULL) STRICT;
CREATE TABLE unit (number INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE,
    merged_into INTEGER REFERENCES unit, trained INTEGER NOT NULL DEFAULT 0,
    prepared INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE reading (token TEXT NOT NULL) STRICT;
CREATE TABLE text (digest BLOB PRIMARY KEY, unit INTEGER NOT NULL REFERENCES unit, sketch BLOB NOT NULL,
    sketch_version TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE name (name TEXT PRIMARY KEY, unit INTEGER NOT NULL REFERENCES unit) STRICT, WITHOUT ROWID;
CREATE INDEX text_of_unit ON text (unit);
CREATE INDEX name_of_unit ON name (unit);
"""
# The step from version 1 to 2. Version 1 did not note which units were trained on: so all of them count as trained, and
# a unit that took over others counts as that many.
_FROM_1 = """
ALTER TABLE unit ADD COLUMN trained INTEGER NOT NULL DEFAULT 1;
ALTER TABLE unit ADD COLUMN prepared INTEGER NOT NULL DEFAULT 0;
CREATE TABLE reading (token TEXT NOT NULL) STRICT;
WITH RECURSIVE inside (root, number) AS (
    SELECT number, number FROM unit WHERE merged_into IS NULL
    UNION ALL SELECT root, unit.number FROM unit JOIN inside ON unit.merged_into = inside.number
)
UPDATE unit SET trained = (SELECT count(*) FROM inside WHERE inside.root = unit.number) WHERE merged_into IS NULL;
"""


class UnitRegistry:
    """The memory of units, in an SQLite file (0600) or in memory. Use as a context manager.

    Raises StorageError when the file cannot be opened, is damaged, is locked by another process, or the disk is full;
    an `assign` that fails leaves the registry as it was.
    """

    def __init__(self, path: Path | None = None, *, patience: float = 10.0) -> None:
        """Open the registry at `path`, creating it when it does not exist; without a path, one that is forgotten.

        `patience` is how many seconds to wait for another process that is writing.
        """
        self._where = str(path) if path is not None else ":memory:"
        with self._storage():
            if path is not None:
                # sqlite3 would create it with the umask's mode; its journals take over the mode of the file.
                make_private(path)
            self._connection = sqlite3.connect(self._where, timeout=patience, isolation_level=None)
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA foreign_keys = ON")
                self._create_or_check()
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what `assign` returned is on disk already."""
        self._connection.close()

    @property
    def dataset(self) -> str:
        """A random name, drawn when the registry was created: the identity of this member's data through all its
        versions. A privacy budget belongs to it, because a fingerprint of content changes with every edit."""
        with self._storage():
            return str(self._connection.execute("SELECT identity FROM dataset").fetchone()[0])

    def assign(self, files: Sequence[SourceFile]) -> list[str]:
        """The unit identity of each file, in order; new edges and units are stored before this returns."""
        sketches = sketch([file.text for file in files])
        with self._storage(), self._transaction():
            known, stored = self._stored_sketches({file.digest for file in files})
            numbers = [
                int(row[0])
                for row in self._connection.execute("SELECT number FROM unit WHERE merged_into IS NULL")
            ]
            node = {number: len(files) + i for i, number in enumerate(sorted(numbers))}

            def node_of(row: int) -> int:
                return row if row < len(files) else node[known[row - len(files)]]

            edges = [(i, node[unit]) for i, file in enumerate(files) for unit in self._units_of(file)]
            pairs = near_duplicates(np.concatenate([sketches, stored]))
            edges += [(node_of(first), node_of(second)) for first, second in pairs]
            unit_of = {n: number for number, n in node.items()}
            identities = [""] * len(files)
            for component in clusters(len(files) + len(node), edges):
                members = [i for i in component if i < len(files)]
                if members:
                    old = [unit_of[i] for i in component if i >= len(files)]
                    number, identity = self._settle(old, [files[i] for i in members])
                    for i in members:
                        identities[i] = identity
                        self._remember(files[i], number, sketches[i].astype("<u4").tobytes())
        return identities

    def overgrown(self) -> frozenset[str]:
        """The identities of units that hold two or more trained ones: they must not be trained on again."""
        with self._storage():
            rows = self._connection.execute(
                "SELECT identity FROM unit WHERE trained > 1 AND merged_into IS NULL"
            )
            return frozenset(str(row[0]) for row in rows)

    def marks(self) -> list[str]:
        """The first 8 bytes, in hex, of the digest of each text that was ever registered, sorted."""
        with self._storage():
            rows = self._connection.execute("SELECT substr(digest, 1, 8) FROM text ORDER BY digest")
            return [bytes(row[0]).hex() for row in rows]

    def assume_trained(self) -> None:
        """Marks every unit as trained: after a loss nobody knows which ones were."""
        with self._storage(), self._transaction():
            self._connection.execute("UPDATE unit SET trained = 1 WHERE trained = 0 AND merged_into IS NULL")

    def largest_merge(self) -> int:
        """The largest number of trained units that turned out to be one; 1 where that never happened."""
        with self._storage():
            (most,) = self._connection.execute("SELECT coalesce(max(trained), 1) FROM unit").fetchone()
            return max(1, int(most))

    def prepare(self, identities: Iterable[str]) -> str:
        """Notes the units that are ready to be trained on. Returns a name for this reading, which replaces the one
        before."""
        token = randomness.token_hex(16)
        with self._storage(), self._transaction():
            self._connection.execute("UPDATE unit SET prepared = 0")
            self._connection.executemany(
                "UPDATE unit SET prepared = 1 WHERE identity = ?", [(identity,) for identity in identities]
            )
            self._connection.execute("DELETE FROM reading")
            self._connection.execute("INSERT INTO reading VALUES (?)", (token,))
        return token

    def is_current(self, token: str) -> bool:
        """Whether the units of that reading may be trained on as they were read: true while none of them was joined
        with another."""
        with self._storage():
            return self._is_current(token)

    def train(self, token: str) -> None:
        """Marks the units of that reading as trained, durably. Raises StorageError when it is no longer current."""
        with self._storage(), self._transaction():
            if not self._is_current(token):
                raise StorageError(
                    "the repositories were read anew while a round began", hint="the next round will do"
                )
            self._connection.execute("UPDATE unit SET trained = 1 WHERE prepared AND trained = 0")

    def _is_current(self, token: str) -> bool:
        newest = self._connection.execute("SELECT token FROM reading").fetchone()
        (stale,) = self._connection.execute(
            "SELECT count(*) FROM unit WHERE prepared AND (merged_into IS NOT NULL OR trained > 1)"
        ).fetchone()
        return newest is not None and newest[0] == token and not stale

    def _units_of(self, file: SourceFile) -> set[int]:
        found = self._connection.execute("SELECT unit FROM text WHERE digest = ?", (file.digest,)).fetchall()
        for name in file.names:
            found += self._connection.execute("SELECT unit FROM name WHERE name = ?", (name,)).fetchall()
        return {int(row[0]) for row in found}

    def _stored_sketches(self, besides: set[bytes]) -> tuple[list[int], Sketches]:
        """Units and sketches of all stored texts, except those with these digests, which are connected already."""
        rows = [
            (int(unit), row)
            for digest, unit, row in self._connection.execute(
                "SELECT digest, unit, sketch FROM text WHERE sketch_version = ? ORDER BY digest",
                (SKETCH_VERSION,),
            )
            if digest not in besides
        ]
        stored = np.frombuffer(b"".join(row for _, row in rows), dtype="<u4").astype(np.uint32)
        return [unit for unit, _ in rows], stored.reshape(len(rows), PERMUTATIONS)

    def _settle(self, old: Sequence[int], files: Sequence[SourceFile]) -> tuple[int, str]:
        """The unit of a component: a new one, or the oldest of the units that it connects, which takes over the
        others."""
        if not old:
            identity = hashlib.sha256(_LABEL + min(file.digest for file in files)).digest()[:16].hex()
            cursor = self._connection.execute("INSERT INTO unit (identity) VALUES (?)", (identity,))
            return int(cursor.lastrowid or 0), identity
        keeper, *others = sorted(old)
        for other in others:
            self._connection.execute(
                "UPDATE unit SET trained = trained + (SELECT trained FROM unit WHERE number = ?) WHERE number = ?",
                (other, keeper),
            )
            self._connection.execute("UPDATE text SET unit = ? WHERE unit = ?", (keeper, other))
            self._connection.execute("UPDATE name SET unit = ? WHERE unit = ?", (keeper, other))
            self._connection.execute("UPDATE unit SET merged_into = ? WHERE number = ?", (keeper, other))
        row = self._connection.execute("SELECT identity FROM unit WHERE number = ?", (keeper,)).fetchone()
        return keeper, str(row[0])

    def _remember(self, file: SourceFile, number: int, row: bytes) -> None:
        self._connection.execute(
            "INSERT INTO text VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE"
            " SET sketch = excluded.sketch, sketch_version = excluded.sketch_version",
            (file.digest, number, row, SKETCH_VERSION),
        )
        for name in file.names:
            self._connection.execute("INSERT OR IGNORE INTO name VALUES (?, ?)", (name, number))

    def _create_or_check(self) -> None:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version == 0:
            with self._transaction():
                # Another process may have created it while this one waited for the lock.
                if int(self._connection.execute("PRAGMA user_version").fetchone()[0]) == 0:
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        self._connection.execute(statement)
                    self._connection.execute("INSERT INTO dataset VALUES (?)", (randomness.token_hex(16),))
                    self._connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif version == 1:
            with self._transaction():
                # Another process may have taken it over while this one waited for the lock.
                if int(self._connection.execute("PRAGMA user_version").fetchone()[0]) == 1:
                    for statement in filter(str.strip, _FROM_1.split(";")):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise StorageError(
                f"the unit registry {self._where} has format {version}, this sordino writes {_VERSION}",
                hint="use the release of sordino that wrote it, or a newer one",
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with closing(self._connection.cursor()) as cursor:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise StorageError(
                f"the unit registry {self._where} cannot be used: {cause}",
                hint="free disk space, stop the other process that uses it, or restore it from a backup; do not delete"
                " it: files would lose their units, and the privacy already spent on them its meaning",
            ) from error
