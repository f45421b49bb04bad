"""The rounds that were run, and what was seen of each member, in SQLite: what survives `kill -9`.

A round is opened before its first message and closed with its outcome. A round found open at start-up was cut short:
it is closed as `interrupted` and its number is never used again, so its keys and masks cannot be either. The release
that a completed round made is written first (whole, or not at all); the row that names it commits it.

Made for ten thousand rounds of a thousand members. The names of a round's members lie in a table of their own, so that
a list of rounds does not read through names. Only those of the newest `NAMED_ROUNDS` are kept; the members of a release
stay named in its manifest. Nothing that runs in a round or for a view reads the table of rounds from end to end.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from sordino_coordinator.round_tables import open_tables
from sordino_privacy.errors import StorageError

NAMED_ROUNDS = 1000
MOST_ROUNDS = 1 << 32  # no round has this number (the protocol's context)
COLUMNS = (
    "round, run, outcome, reason, started, finished, attempts, release, loss, phases, bytes_in, bytes_out, "
    "included, departed"
)


class Outcome(StrEnum):
    """How a round ended; the labels of `sordino_rounds_total` but for the two that are not endings."""

    OPEN = "open"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    ABORTED_COHORT = "aborted_cohort"
    ABORTED_DROPOUTS = "aborted_dropouts"
    ABORTED_TIMEOUT = "aborted_timeout"
    ABORTED_ERROR = "aborted_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One row. Times in seconds since the epoch, `phases` in seconds per phase, bytes as counted on the link.

    `included` members are in the sum and `departed` ones left; `members` and `dropped` name them, where that was asked
    for and the round is one of the newest `NAMED_ROUNDS`.
    """

    round: int
    run: str
    outcome: Outcome
    reason: str
    started: float
    finished: float | None
    attempts: int
    release: int | None
    loss: float | None
    phases: Mapping[str, float]
    bytes_in: int
    bytes_out: int
    included: int
    departed: int
    members: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """What the coordinator last saw of a member. Times are Unix time in seconds; `epsilon` is what it reported, and
    `epsilon_if_others_collude` beside it where its noise comes in shares; `unready` is why it was not ready for the
    last offer, empty where it was."""

    name: str
    seen: float
    certificate_expires: float
    epsilon: float | None
    unready: str
    epsilon_if_others_collude: float | None = None


class RoundStore:
    """The table of rounds. One writer: a second process that opens it is refused by the folder's lock (see up).

    Each row of a round is on the disk when its call returns. Mere notes about members, thousands in a round, are synced
    with the next such row: a power cut may lose the notes since then, a killed process loses none.
    """

    def __init__(self, path: Path) -> None:
        """Opens or creates. Raises StorageError when the file is damaged or from a newer version."""
        self._writing = (
            threading.RLock()
        )  # the link's thread notes who connects while a round is being closed
        self._database, self._noted = open_tables(path)

    def close(self) -> None:
        """Closes the file."""
        self._noted.close()
        self._database.close()

    def _note(self, statement: str, values: Sequence[object]) -> None:
        """Raises StorageError."""
        self._write(statement, values, self._noted)

    def _write(
        self, statement: str, values: Sequence[object], through: sqlite3.Connection | None = None
    ) -> int:
        """Raises StorageError. Returns how many rows changed."""
        try:
            with self._writing:
                return (through or self._database).execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot record the round: {error}",
                hint="free some space; the last committed round is intact",
            ) from error

    def interrupted(self) -> int:
        """Closes every round that was left open, and says how many there were. Called once at start-up."""
        cursor = self._database.execute(
            "UPDATE rounds SET outcome=?, reason='the coordinator stopped', finished=? WHERE outcome=?",
            (Outcome.INTERRUPTED, time.time(), Outcome.OPEN),
        )
        return cursor.rowcount

    def next_round(self) -> int:
        """The number that the next round will have."""
        (last,) = self._database.execute("SELECT coalesce(max(round), 0) FROM rounds").fetchone()
        return int(last) + 1

    def open_round(self, run: str) -> int:
        """Takes the next number, durably, before anything of the round is sent."""
        number = self.next_round()
        self._write(
            "INSERT INTO rounds (round, run, outcome, started) VALUES (?, ?, ?, ?)",
            (number, run, Outcome.OPEN, time.time()),
        )
        return number

    def close_round(
        self,
        number: int,
        outcome: Outcome,
        *,
        reason: str = "",
        attempts: int = 1,
        release: int | None = None,
        loss: float | None = None,
        members: Sequence[str] = (),
        dropped: Mapping[str, str] | None = None,
        phases: Mapping[str, float] | None = None,
        bytes_in: int = 0,
        bytes_out: int = 0,
    ) -> None:
        """Writes the end of a round, once. For a completed one this is the commit of its release."""
        left = dict(dropped or {})
        ended = (
            outcome,
            reason,
            time.time(),
            attempts,
            release,
            loss,
            json.dumps(dict(phases or {})),
            bytes_in,
            bytes_out,
            len(members),
            len(left),
            number,
        )
        names = (number, json.dumps(list(members)), json.dumps(left))
        with self._together():
            closed = self._write(
                "UPDATE rounds SET outcome=?, reason=?, finished=?, attempts=?, release=?, loss=?, phases=?,"
                " bytes_in=?, bytes_out=?, included=?, departed=? WHERE round=? AND outcome='open'",
                ended,
            )
            if closed:
                self._write("INSERT INTO attendance (round, members, dropped) VALUES (?, ?, ?)", names)
                self._write("DELETE FROM attendance WHERE round <= ?", (number - NAMED_ROUNDS,))

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """What is written in the block is committed as one, or not at all. Raises StorageError."""
        with self._writing:
            self._write("BEGIN IMMEDIATE", ())
            try:
                yield
                self._write("COMMIT", ())
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled it back already
                    self._database.execute("ROLLBACK")
                raise

    def rounds(self, *, last: int = 1000, before: int | None = None, names: bool = True) -> list[RoundRecord]:
        """The newest `last` rounds of those before round `before` (None: of all), oldest first; without `names`, who
        was in them is only counted."""
        rows = self._database.execute(
            f"SELECT {COLUMNS} FROM rounds WHERE round < ? ORDER BY round DESC LIMIT ?",  # noqa: S608
            (MOST_ROUNDS if before is None else before, last),
        ).fetchall()
        found = [record(row) for row in reversed(rows)]
        if not names or not found:
            return found
        cast = {
            number: (tuple(json.loads(members)), json.loads(dropped))
            for number, members, dropped in self._database.execute(
                "SELECT round, members, dropped FROM attendance WHERE round BETWEEN ? AND ?",
                (found[0].round, found[-1].round),
            )
        }
        named = []
        for one in found:
            members, dropped = cast.get(one.round, ((), {}))
            named.append(replace(one, members=members, dropped=dropped))
        return named

    def newest_completed(self) -> RoundRecord | None:
        """The completed round with the newest release, however many have failed since."""
        row = self._database.execute(
            f"SELECT {COLUMNS} FROM rounds WHERE outcome=? ORDER BY release DESC LIMIT 1",  # noqa: S608
            (Outcome.COMPLETED,),
        ).fetchone()
        return None if row is None else record(row)

    def last_reason(self) -> str:
        """Why the newest round ended as it did."""
        newest = self.rounds(last=1, names=False)
        return newest[0].reason if newest else ""

    def counts(self) -> dict[Outcome, int]:
        """How many rounds ended in each way."""
        rows = self._database.execute("SELECT outcome, count(*) FROM rounds GROUP BY outcome").fetchall()
        return {Outcome(outcome): int(count) for outcome, count in rows}

    def note_member(self, name: str, *, certificate_expires: float) -> None:
        """Notes that a member connected, with a certificate that ends then."""
        self._note(
            "INSERT INTO members (name, seen, certificate_expires) VALUES (?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET seen=excluded.seen, certificate_expires=excluded.certificate_expires",
            (name, time.time(), certificate_expires),
        )

    def note_epsilon(self, name: str, epsilon: float, alone: float | None) -> None:
        """Notes the epsilon that a member reported, and the one if all others collude, where there is one."""
        self._note(
            "UPDATE members SET epsilon=?, epsilon_if_others_collude=?, seen=? WHERE name=?",
            (epsilon, alone, time.time(), name),
        )

    def members(self) -> list[MemberRecord]:
        """Every member that was ever seen, by name."""
        rows = self._database.execute(
            "SELECT members.name, seen, certificate_expires, epsilon, coalesce(unready, ''),"
            " epsilon_if_others_collude FROM members"
            " LEFT JOIN standings ON standings.name = members.name ORDER BY members.name"
        ).fetchall()
        return [
            MemberRecord(
                name=name,
                seen=seen,
                certificate_expires=expires,
                epsilon=epsilon,
                unready=unready,
                epsilon_if_others_collude=alone,
            )
            for name, seen, expires, epsilon, unready, alone in rows
        ]

    def note_unready(self, name: str, unready: str) -> None:
        """Notes why a member is not ready; empty: it is."""
        self._note(
            "INSERT INTO standings (name, unready) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET unready=excluded.unready WHERE unready!=excluded.unready",
            (name, unready),
        )

    def keep_head(self, name: str, *, generation: int, sequence: int, head: bytes) -> None:
        """Keeps the signed head of a member's ledger, unless a newer one of it is kept already."""
        self._note(
            "INSERT INTO standings (name, generation, sequence, head) VALUES (?, ?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET generation=excluded.generation, sequence=excluded.sequence, head=excluded.head"
            " WHERE (excluded.generation, excluded.sequence) > (standings.generation, standings.sequence)",
            (name, generation, sequence, head),
        )

    def heads(self) -> dict[str, bytes]:
        """The newest signed head of each member's ledger."""
        rows = self._database.execute("SELECT name, head FROM standings WHERE length(head) > 0").fetchall()
        return {name: bytes(head) for name, head in rows}

    def committed_release(self) -> int | None:
        """The newest release that a completed round committed."""
        (release,) = self._database.execute(
            "SELECT max(release) FROM rounds WHERE outcome=?", (Outcome.COMPLETED,)
        ).fetchone()
        return None if release is None else int(release)


def record(row: Sequence[object]) -> RoundRecord:
    """A row of `COLUMNS` as a record, without names."""
    number, run, outcome, reason, started, finished, attempts, release, loss, phases, *counts = row
    bytes_in, bytes_out, included, departed = (int(str(count)) for count in counts)
    return RoundRecord(
        round=int(str(number)),
        run=str(run),
        outcome=Outcome(str(outcome)),
        reason=str(reason),
        started=float(str(started)),
        finished=None if finished is None else float(str(finished)),
        attempts=int(str(attempts)),
        release=None if release is None else int(str(release)),
        loss=None if loss is None else float(str(loss)),
        phases=json.loads(str(phases)),
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        included=included,
        departed=departed,
    )
