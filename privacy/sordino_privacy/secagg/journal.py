"""What a member must remember across restarts, and which steps its memory still allows.

A member's session can die at any moment and start again from nothing. What it may still do depends on what it had
already done. So each step is made durable *before* its effect leaves: the epoch it acted under, that it advertised,
what it uploaded, what it signed, that it revealed. `require_follows` is the whole rule; a durable `Journal` calls it
inside the transaction that inserts the entry, so that two processes with one identity cannot both pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from sordino_privacy.secagg.encoding import digest
from sordino_privacy.secagg.refusals import ReplayError, RevealError

MOST_UPLOADED_ATTEMPTS = 32
"""The largest number of attempts of one round in which a member uploads, always the same update. Each attempt may be
mustered, and under `update_check = "norm"` every muster reveals projections of that update. Without a limit they would
reveal all of it.
"""


class Step(IntEnum):
    """The durable steps of one attempt, in order."""

    ADVERTISED = 1
    UPLOADED = 2
    SPENT = 3
    REVEALED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One step. `update` is the 32-byte identity of the quantised update (empty when ADVERTISED); `digest`, 32 bytes,
    names what was bound: the context (ADVERTISED), R and U2 (UPLOADED), R, U2 and U3 (SPENT, REVEALED)."""

    federation: str
    epoch: int
    run: str
    round: int
    attempt: int
    step: Step
    update: bytes
    digest: bytes


class Journal(Protocol):
    """Durable memory of one member. A read sees every completed `record`, in any process."""

    def highest_epoch(self, federation: str) -> int:
        """The highest charter epoch of any entry of the federation; 0 when there is none."""
        ...

    def entries(self, federation: str, run: str, round: int) -> Sequence[JournalEntry]:
        """All entries of one round, in the order in which they were recorded."""
        ...

    def record(self, entry: JournalEntry) -> None:
        """Atomically: `admit(self.entries(...), entry)`, then append. Returns only when durable (fsync).

        Raises what `require_follows` raises, and StorageError when it cannot be made durable: then nothing may leave.
        An entry equal to a recorded one (a resent message) is admitted, but not stored twice.
        """
        ...


def bound(roster_hash: bytes, *hashes: bytes) -> bytes:
    """The `digest` of an entry after the first: it commits to R, to U2, and to U3 if the step depends on it."""
    return digest("journal", roster_hash, *hashes)


def require_follows(existing: Sequence[JournalEntry], entry: JournalEntry) -> None:
    """Decides whether `entry` may follow the `existing` entries of its round. Pure. Raises ReplayError or RevealError.

    * A step of an overtaken attempt is a replay; so is an advertisement after the upload of its own attempt.
    * After SPENT only the same attempt's same statement may be repeated, and REVEALED follow.
    * Every attempt of a round uploads the same update, and an attempt uploads under one U2.
    * No more than MOST_UPLOADED_ATTEMPTS are uploaded in.
    * REVEALED happens once, and is recorded before the signatures of a quorum are checked.
    """
    what = f"round {entry.round} of run {entry.run!r}"
    if any(old.attempt > entry.attempt for old in existing):
        raise ReplayError(f"attempt {entry.attempt} of {what} was overtaken by a later attempt")
    done = {old.step: old for old in existing if old.attempt == entry.attempt}
    spent = next((old for old in existing if old.step is Step.SPENT), None)
    uploads = [old for old in existing if old.step is Step.UPLOADED]
    match entry.step:
        case Step.ADVERTISED:
            if spent is not None:
                raise ReplayError(f"{what} is spent", hint="a new round is needed")
            if Step.UPLOADED in done:
                raise ReplayError(
                    f"attempt {entry.attempt} of {what} was already uploaded", hint="use a new attempt"
                )
        case Step.UPLOADED:
            if spent is not None:
                raise ReplayError(f"{what} is spent", hint="a new round is needed")
            if Step.UPLOADED not in done and len(uploads) >= MOST_UPLOADED_ATTEMPTS:
                raise ReplayError(
                    f"{what} was uploaded in {len(uploads)} attempts already", hint="a new round is needed"
                )
            if any(old.update != entry.update for old in uploads):
                raise ReplayError(f"a retry of {what} must carry the same stored update")
            if Step.UPLOADED in done and done[Step.UPLOADED].digest != entry.digest:
                raise ReplayError(f"attempt {entry.attempt} of {what} was already uploaded under another U2")
        case Step.SPENT:
            if spent is not None and (spent.attempt, spent.digest) != (entry.attempt, entry.digest):
                raise ReplayError(f"{what} is spent on another set of survivors")
            if Step.UPLOADED not in done:
                raise ReplayError(f"attempt {entry.attempt} of {what} was not uploaded")
        case Step.REVEALED:
            if any(old.step is Step.REVEALED for old in existing):
                raise RevealError(f"shares of {what} were already revealed")
            if Step.SPENT not in done or done[Step.SPENT].digest != entry.digest:
                raise RevealError(f"this set of survivors of {what} was not signed")
