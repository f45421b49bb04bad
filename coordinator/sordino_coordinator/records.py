"""The record of how each release was made, and the part of it that a member is shown.

A release that a round made comes with the record that its members signed and with the opened sum, so that a member can
repeat the arithmetic (sordino_platform.following). Releases of an older version, and those whose record a restored
backup lost, have none: for them the manifests are sent alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from flwr.app import RecordDict

from sordino_platform.durable import read_file
from sordino_platform.flower.phases import pack
from sordino_platform.plans import parse_plan
from sordino_platform.provenance import UPLOAD, OpenedSum, Provenance, packed
from sordino_platform.release import ReleaseStore
from sordino_privacy.secagg import Record, RoundContext

TRANSCRIPT: Final = "transcript"
MAX_RECORD_BYTES: Final = 256 << 20
PLAN, SUM, CARRIES, EVIDENCE = "plan.json", "sum.bin", "carries.bin", "evidence.bin"
"""The files of an opened sum beside its release; those of silent members' uploads begin with UPLOAD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecords:
    """The signed records in `folder`/transcript, and the opened sums beside the releases."""

    folder: Path
    releases: ReleaseStore

    def path(self, number: int) -> Path:
        """Where the members' signed record of the round that made a release is, if it was not lost with a restored
        backup."""
        return self.folder / TRANSCRIPT / f"{number:06d}.bin"

    def record(self, number: int) -> bytes:
        """That record. Raises StorageError."""
        return read_file(self.path(number), limit=MAX_RECORD_BYTES)

    def provenance(self, *, after: int, known: int = 0) -> Provenance | None:
        """Everything that a member whose newest release is `after` (-1: it has none) needs to check the newest one;
        None if it holds that. It holds the manifests of the first `known` releases. Raises StorageError.

        A release that an older version made has no kept sum: its manifest goes alone, and a member that lacks it can
        follow after the next round.
        """
        head = self.releases.head()
        if after >= head.number:
            return None
        # At least the newest manifest is sent: a member checks what it is shown, not what it may remember.
        numbers = range(min(max(after + 1, known, 0), head.number), head.number + 1)
        manifests = tuple(self.releases.manifest_bytes(number) for number in numbers)
        counted = self._counted(after=after)
        if head.restores is not None:
            restored, voucher = head.restores, self._record_that_began_with(head.vector_hash)
            if restored in (0, after) or voucher is None:
                return Provenance(manifests=manifests, counted=counted)
            return Provenance(
                manifests=manifests, model=self.releases.vector(restored), voucher=voucher, counted=counted
            )
        opened = self._opened(head.number)
        if head.round is None or opened is None:
            return Provenance(manifests=manifests, counted=counted)
        before = self.releases.manifest(head.number - 1)
        at_hand = after == before.number or before.number == 0
        model = None if at_hand else self.releases.vector(before.number)
        return Provenance(manifests=manifests, opened=opened, model=model, counted=counted)

    def announcement(self) -> RecordDict:
        """The RESULT message: the newest release, and the record of the round that made it. Raises StorageError."""
        return pack(*packed(self.provenance(after=self.releases.head().number - 1), {}))

    def _opened(self, number: int) -> OpenedSum | None:
        """The record of the round that made a release; None if it is not kept. Raises StorageError."""
        kept, manifest = self.releases.opened(number), self.releases.manifest(number)
        if kept is None:
            return None
        record, before = self.record(number), self.releases.manifest(number - 1)
        quantiser = RoundContext.decode(Record.decode(record).context).quantiser
        steps = before.optimiser == manifest.optimiser and not manifest.counted
        return OpenedSum(
            record=record,
            plan=parse_plan(bytes(kept[PLAN])),
            sum=np.frombuffer(kept[SUM], dtype=quantiser.dtype),
            carries=np.frombuffer(kept[CARRIES], dtype=quantiser.carries),
            evidence=bytes(kept[EVIDENCE]),
            uploads={
                name.removeprefix(UPLOAD): data for name, data in kept.items() if name.startswith(UPLOAD)
            },
            moments=self.releases.moments(before.number) if steps else (),
        )

    def _counted(self, *, after: int) -> OpenedSum | None:
        """The record of the count that made the memory in force, for a member whose newest release is `after`. None if
        the member has it, if the newest release made it, or if the record is not kept any more."""
        head = self.releases.head()
        if head.shared_memory is None or head.counted:
            return None
        if after >= 0 and self.releases.manifest(after).shared_memory == head.shared_memory:
            return None
        return self._opened(head.shared_memory.release)

    def _record_that_began_with(self, vector_hash: bytes) -> bytes | None:
        """The newest record of a round whose members all began with the model of that hash."""
        chain = self.releases.chain()
        for signed in reversed(chain[1:]):
            manifest = signed.manifest
            began = manifest.round is not None and chain[manifest.number - 1].manifest.vector_hash
            if began == vector_hash and self.path(manifest.number).exists():
                return self.record(manifest.number)
        return None
