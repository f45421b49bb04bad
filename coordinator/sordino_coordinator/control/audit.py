"""The audit log: what the coordinator and its operators did, one JSON line each, chained by hash and signed.

    entry  = {"sequence", "at", "action", "by", "detail", "previous"}        previous: hash of the entry before
    line   = {"entry": ..., "signature": Ed25519 over the entry's hash, by the coordinator's identity key}

A line that was changed, removed from the middle or put elsewhere breaks the chain; nobody without the key can mend
it. A truncated end shows only against a head that was noted elsewhere: `sordino coordinator audit verify` prints the
head, and takes one to compare with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sordino_platform.canonical import (
    Digest,
    Document,
    Moment,
    Signature,
    document_digest,
    moment,
    require_signature,
    sign,
)
from sordino_platform.durable import locked, make_folder
from sordino_platform.identity import require_signs
from sordino_platform.machine import files
from sordino_privacy.errors import ConfigurationError, StorageError
from sordino_privacy.signing import Signer

FOLDER, FILE = "audit", "audit.jsonl"
LABEL = "sordino-audit/1"
GENESIS = bytes(32)
MAX_LINE_BYTES = 4096


class Action(StrEnum):
    """What is noted; the label of `sordino_audit_events_total`."""

    STARTED = "started"
    STOPPED = "stopped"
    RECOVERED = "recovered"
    ROUND_COMPLETED = "round_completed"
    ROUND_ABORTED = "round_aborted"
    EPOCH_ADOPTED = "epoch_adopted"
    EPOCH_REFUSED = "epoch_refused"
    PAUSED = "paused"
    RESUMED = "resumed"
    PACE_CHANGED = "pace_changed"
    ROLLBACK_ORDERED = "rollback_ordered"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    COUNT_ORDERED = "count_ordered"
    COUNT_CANCELLED = "count_cancelled"
    COUNT_FAILED = "count_failed"
    MEMBER_REFUSED = "member_refused"
    MEMBER_CHEATED = "member_cheated"
    OPERATOR_REFUSED = "operator_refused"
    CONSOLE_OPENED = "console_opened"
    ADOPTED = "adopted"
    TAKEN_OVER = "taken_over"
    HANDED_OVER = "handed_over"


# Where the action came from (process, command, API) and, if a provider vouched for a person, the provider's own name
# for that person (the claim `sub`).
Origin = Annotated[str, Field(pattern=r"^(coordinator|command|api|(api|console):[ -~]{1,255})$")]


class AuditEntry(Document):
    """One thing that was done. `detail` is a short text of names and numbers, never data."""

    version: Literal["sordino-audit/1"] = "sordino-audit/1"
    sequence: int = Field(ge=1)
    at: Moment
    action: Annotated[Action, Field(strict=False)]
    by: Origin
    detail: str = Field(max_length=1000)
    previous: Digest

    def line(self) -> bytes:
        """The entry as it is hashed and signed."""
        return self.model_dump_json().encode("ascii", "backslashreplace")

    def hash(self) -> bytes:
        """32 bytes: what the next entry chains to."""
        return document_digest(LABEL, self.line())


class Line(Document):
    """An entry and the coordinator's signature over it."""

    entry: AuditEntry
    signature: Signature


class AuditLog:
    """The log in a coordinator's folder. `key` signs what is appended; any process of the folder's owner may append."""

    def __init__(
        self, folder: Path, *, key: Signer, on_append: Callable[[Action], None] | None = None
    ) -> None:
        self._folder, self._key, self._on_append = folder / FOLDER, key, on_append
        make_folder(self._folder)

    def require_signs(self) -> None:
        """Whether an entry could be signed now: an order that cannot be noted is not given. Raises SignerError."""
        require_signs(self._key)

    def append(self, action: Action, detail: str = "", *, by: str = "coordinator") -> AuditEntry:
        """Notes an action durably. Raises StorageError when the disk refuses, or the last line is damaged."""
        plain = "".join(c if c.isprintable() and c.isascii() else "?" for c in detail)[:1000]
        path = self._folder / FILE
        with locked(self._folder):
            last = last_line(path)
            entry = AuditEntry(
                sequence=last.entry.sequence + 1 if last else 1,
                at=moment(datetime.now(UTC)),
                action=action,
                by=by,
                detail=plain,
                previous=last.entry.hash() if last else GENESIS,
            )
            line = Line(entry=entry, signature=sign(self._key, LABEL, entry.line()))
            _append(path, line.model_dump_json().encode() + b"\n")
        if self._on_append is not None:
            self._on_append(action)
        return entry


def _append(path: Path, line: bytes) -> None:
    try:
        handle = os.open(path, files.APPEND, files.SECRET_MODE)
        try:
            size = os.fstat(handle).st_size
            if os.write(handle, line) != len(line):
                os.ftruncate(handle, size)  # half a line would look like tampering
                raise StorageError(f"cannot write {path}: the disk is full", hint="free some space")
            files.sync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", hint="free some space") from error


def last_line(path: Path) -> Line | None:
    """The newest line. What a crash left of a line that was being written is cut off. Raises StorageError."""
    if not path.exists():
        return None
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2 * MAX_LINE_BYTES))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            whole = tail.rfind(b"\n") + 1
            file.truncate(size - len(tail) + whole)
            tail = tail[:whole]
    lines = tail.splitlines()
    return parse_line(lines[-1], what=str(path)) if lines else None


def parse_line(line: bytes, *, what: str) -> Line:
    """One line of the log. Raises StorageError when it is none."""
    try:
        return Line.model_validate_json(line)
    except ValidationError:
        raise StorageError(
            f"{what} is damaged", hint="`sordino coordinator audit verify` says where"
        ) from None


def read_lines(folder: Path) -> Iterator[Line]:
    """Every line of a coordinator's folder, oldest first, unverified. Raises StorageError."""
    path = folder / FOLDER / FILE
    if not path.exists():
        return
    with path.open("rb") as file:
        while line := file.readline(2 * MAX_LINE_BYTES):
            if line.endswith(b"\n"):
                yield parse_line(line, what=str(path))


def newest(folder: Path, *, last: int) -> list[AuditEntry]:
    """The newest `last` entries, newest first, unverified; reads the file's end only. Raises StorageError."""
    path = folder / FOLDER / FILE
    if not path.exists():
        return []
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - last * MAX_LINE_BYTES)
        file.seek(start)
        lines = [line for line in file.readlines() if line.endswith(b"\n")]
    whole = lines[1:] if start else lines
    return [parse_line(line, what=str(path)).entry for line in reversed(whole[-last:])]


def verify_audit(folder: Path, *, keys: frozenset[bytes], head: bytes | None = None) -> tuple[int, bytes]:
    """Checks every line against the chain and the coordinator's key of any epoch; returns `(count, head)`.

    With `head`, an entry of that hash must be in the log: an end that was cut off is found. Raises StorageError
    naming the first line that is wrong.
    """
    previous, count, seen = GENESIS, 0, head is None
    for count, line in enumerate(read_lines(folder), 1):
        entry = line.entry
        if (entry.sequence, entry.previous) != (count, previous):
            raise StorageError(
                f"entry {count} of the audit log does not follow the one before it",
                hint="a line was removed, changed or put elsewhere: restore the log, and ask who could write it",
            )
        if not any(_signed(line, key) for key in keys):
            raise StorageError(
                f"entry {count} of the audit log is not signed by the coordinator",
                hint="it was changed or added by somebody without the coordinator's key",
            )
        previous = entry.hash()
        seen = seen or previous == head
    if not seen:
        raise StorageError("the audit log does not hold the given head: its end was cut off")
    return count, previous


def _signed(line: Line, key: bytes) -> bool:
    try:
        require_signature(key, LABEL, line.entry.line(), line.signature, what="the entry")
    except ConfigurationError:
        return False
    return True
