"""The journal is the member's ledger on disk: what was spent and revealed is known to its next process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.secagg.federation import Federation, SeededEntropy, membership, signing_key

from sordino_client.ledger import Budget, Ledger
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.secagg import (
    IdentityError,
    JournalEntry,
    MemberSession,
    ReplayError,
    RevealError,
    SessionPhase,
    Step,
)
from sordino_privacy.secagg.journal import MOST_UPLOADED_ATTEMPTS

NAME = "member-0000"
PLAN = TrainingPlan(
    sampling_rate=0.01,
    noise_multiplier=1.0,
    clip_norm=0.5,
    steps=1,
    windows_per_unit=4,
    window=256,
    learning_rate=0.5,
    optimiser="sgd",
    delta=1e-6,
    expected_units=32,
)


class Disk:
    """A member whose journal is a real ledger; `restart` closes it, opens it anew and restores the session."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder, self.ledger = folder, self.opened(folder)

    @staticmethod
    def opened(folder: Path) -> Ledger:
        return Ledger.open(folder, datasets=["repository"], budget=Budget(epsilon=8.0, delta=1e-6))

    def session(self, federation: Federation, snapshot: bytes = b"") -> MemberSession:
        self.ledger.close()
        self.ledger = self.opened(self.folder)
        self.ledger.reserve(federation.context.run, federation.context.round, PLAN)
        arguments: tuple[Any, ...] = (
            NAME,
            signing_key(NAME),
            federation.membership,
            federation.context,
            self.ledger,
            SeededEntropy((federation.round, federation.attempt, len(snapshot))),
        )
        return MemberSession.restore(snapshot, *arguments) if snapshot else MemberSession(*arguments)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "ledger")
    yield disk
    disk.ledger.close()


def until(disk: Disk, federation: Federation, phase: str) -> Any:
    federation.members[NAME] = disk.session(federation)
    message, _ = federation.until(phase)
    return message


def test_a_round_that_was_signed_is_spent_for_every_later_process(disk: Disk) -> None:
    federation = Federation(membership(5))
    claim = until(disk, federation, "survivors")
    snapshot = federation.members[NAME].snapshot_with_secrets()
    federation.members[NAME].survivors(claim)
    for attempt in (0, 1, 7):
        with pytest.raises(ReplayError, match="spent"):
            disk.session(Federation(membership(5), attempt=attempt)).advertise()
    # The session from before the signature may only repeat the signature that it gave.
    restored = disk.session(federation, snapshot)
    assert restored.survivors(claim)
    assert restored.phase is SessionPhase.AGREED


def test_shares_are_revealed_once_across_processes_even_with_a_snapshot_from_before(disk: Disk) -> None:
    federation = Federation(membership(5))
    openings = until(disk, federation, "unmask")
    assert isinstance(openings, Mapping)
    snapshot = federation.members[NAME].snapshot_with_secrets()
    federation.members[NAME].unmask(openings[NAME], federation.updates[NAME])
    with pytest.raises(RevealError, match="already revealed"):
        disk.session(federation, snapshot).unmask(openings[NAME], federation.updates[NAME])
    steps = [entry.step for entry in disk.ledger.entries("orchestra", "run-1", 0)]
    assert steps == [Step.ADVERTISED, Step.UPLOADED, Step.SPENT, Step.REVEALED]


def test_a_session_that_shares_twice_under_one_roster_seals_the_same_parcels(disk: Disk) -> None:
    """The nonce of a parcel is fixed. Two plaintexts under one key would tell the coordinator their difference, and
    how to forge a tag."""
    federation = Federation(membership(5))
    roster = until(disk, federation, "share")
    snapshot = federation.members[NAME].snapshot_with_secrets()
    first = federation.members[NAME].share(roster)
    assert disk.session(federation, snapshot).share(roster) == first


def test_a_round_is_uploaded_in_no_more_attempts_than_it_may_be_across_restarts(disk: Disk) -> None:
    """Each attempt may be mustered, and tells projections of the same update once more."""
    one_of_them = Federation(membership(5))

    def uploaded(attempt: int) -> JournalEntry:
        context = one_of_them.context
        return JournalEntry(
            federation=context.federation,
            epoch=context.epoch,
            run=context.run,
            round=context.round,
            attempt=attempt,
            step=Step.UPLOADED,
            update=bytes(32),
            digest=attempt.to_bytes(32, "big"),
        )

    disk.session(one_of_them)
    for attempt in range(MOST_UPLOADED_ATTEMPTS):
        disk.ledger.record(uploaded(attempt))
    disk.session(one_of_them)
    disk.ledger.record(uploaded(MOST_UPLOADED_ATTEMPTS - 1))  # the same one, sent again
    with pytest.raises(ReplayError, match="32 attempts"):
        disk.ledger.record(uploaded(MOST_UPLOADED_ATTEMPTS))


def test_a_session_from_before_the_upload_can_only_repeat_that_upload_after_a_restart(disk: Disk) -> None:
    federation = Federation(membership(5))
    deliveries = until(disk, federation, "upload")
    snapshot = federation.members[NAME].snapshot_with_secrets()
    list(federation.members[NAME].upload(deliveries[NAME], federation.updates[NAME]))
    restored = disk.session(federation, snapshot)
    again = b"".join(restored.upload(deliveries[NAME], federation.updates[NAME]))
    assert again  # the same delivery, the same update: the same bytes, which tell nothing new
    with pytest.raises(ReplayError, match="same stored update"):
        disk.session(federation, snapshot).upload(deliveries[NAME], federation.updates["member-0001"])


def test_a_charter_epoch_once_acted_under_is_remembered_by_the_next_process(disk: Disk) -> None:
    newer = Federation(membership(5, epoch=2))
    disk.session(newer).advertise()
    older = Federation(membership(5, epoch=1), round=1)
    with pytest.raises(IdentityError, match="epoch"):
        disk.session(older)
