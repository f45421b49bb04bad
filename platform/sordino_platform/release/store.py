"""The releases that a party holds: a chain of folders, each signed and naming the one before (`release.folder`).

The coordinator adds to its store with its key; a member's store accepts what the coordinator sends. Both verify the
whole chain when it is read, and both add a release whole or not at all: its folder is written under a temporary name,
fsynced and renamed. Manifests are kept for ever; the weights of old releases may be pruned.

    >>> store = ReleaseStore(folder, identity.charters)
    >>> store.add(vector, key=identity.signing_key, run="r1", round=3, members=names, heldout_loss=2.31)
    >>> mine.accept(store.manifest_bytes(4), vector)
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from sordino_platform.architecture import Vector
from sordino_platform.canonical import first_problem, moment
from sordino_platform.charter import Charter, CharterStore
from sordino_platform.durable import locked, move_folder
from sordino_platform.machine.files import sync_folder
from sordino_platform.release.chain import ReleaseChain
from sordino_platform.release.folder import ReleaseContents, ReleaseFolder
from sordino_platform.release.manifest import (
    NO_PARENT,
    Manifest,
    MemoryMark,
    SignedManifest,
    require_next,
)
from sordino_platform.release.optimiser import Moments, ServerOptimiser
from sordino_platform.release.steps import require_vector
from sordino_platform.release.weights import file_sha256, vector_hash
from sordino_privacy.counts import SharedMemory
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.signing import Signer

KEPT = 3
"""The weights of this many newest releases are kept."""


class ReleaseStore(ReleaseChain):
    """A folder of releases that grows, verified against the charters of `charters`."""

    def __init__(self, folder: Path, charters: CharterStore) -> None:
        super().__init__(folder, charters)
        # Releases below `_pruned` are already pruned. Those in `_counts` counted a memory that was in force then. Only
        # they, and releases added since, are looked at again.
        self._pruned = 1
        self._counts: set[int] = set()

    def keep_memory(self, memory: SharedMemory) -> None:
        """Keeps the shared memory in force at the newest release, in the folder of the release that counted it. Raises
        ConfigurationError for another memory, StorageError."""
        mark = self.head().shared_memory
        if mark is None or memory.digest() != mark.sha256:
            raise ConfigurationError("the shared memory is not the one of the newest release")
        with locked(self.folder):
            self._here(mark.release).keep_memory(memory)

    def add(
        self,
        vector: Vector,
        *,
        key: Signer,
        run: str,
        round: int | None = None,
        members: Sequence[str] = (),
        heldout_loss: float | None = None,
        transcript_head: bytes | None = None,
        restores: int | None = None,
        optimiser: ServerOptimiser | None = None,
        moments: Moments = (),
        opened: Mapping[str, bytes | memoryview] | None = None,
        charter: Charter | None = None,
        counted: SharedMemory | None = None,
        now: datetime | None = None,
    ) -> Manifest:
        """Signs and keeps the next release, under `charter`, by default the newest. When it returns, the release
        survives a crash.

        `counted` is the memory of a round that counted phrases; after any other round the memory in force stays.
        `opened` are files that show how a round made the release, by name. They are kept as long as members may ask for
        them. Raises StorageError for a full disk or a vector that is not finite, ConfigurationError for a broken rule.
        """
        charter = charter or self.charters.head().charter
        with locked(self.folder):
            chain = self.chain()
            mark = self._mark(chain, restores, counted)
            try:
                manifest = Manifest(
                    version="sordino-release/1" if mark is None else "sordino-release/2",
                    federation=charter.federation,
                    run=run,
                    number=len(chain),
                    parent=chain[-1].manifest.hash() if chain else NO_PARENT,
                    charter_hash=charter.hash(),
                    model=charter.model,
                    dimension=vector.size,
                    weights_sha256=file_sha256(vector),
                    vector_hash=vector_hash(vector),
                    round=round,
                    members=tuple(sorted(members)),
                    heldout_loss=heldout_loss,
                    transcript_head=transcript_head,
                    restores=restores,
                    optimiser=optimiser or ServerOptimiser(),
                    moments=tuple(map(file_sha256, moments)),
                    shared_memory=mark,
                    made_at=moment(now or datetime.now(UTC)),
                )
            except ValidationError as error:
                raise ConfigurationError(f"the release cannot be: {first_problem(error)}") from None
            self._tidy()
            return self._keep(
                ReleaseContents(
                    signed=SignedManifest.sign(manifest, key),
                    vector=vector,
                    moments=moments,
                    opened=opened or {},
                    counted=counted,
                )
            )

    def _mark(
        self, chain: Sequence[SignedManifest], restores: int | None, counted: SharedMemory | None
    ) -> MemoryMark | None:
        """The next release's entry for the shared memory."""
        if counted is not None:
            return MemoryMark(sha256=counted.digest(), release=len(chain))
        if restores is not None:
            return self.manifest(restores).shared_memory
        return chain[-1].manifest.shared_memory if chain else None

    def accept(self, manifest: bytes, vector: Vector | None) -> Manifest:
        """Verifies and keeps a release from the coordinator; `vector` is what the member computed or received.

        Without a vector only the manifest is kept: this is how a member that joins late follows the chain up to the
        newest release. A release that is already held is accepted again, and a missing vector is then added. Raises
        ConfigurationError, StorageError, and then nothing has changed.
        """
        signed = SignedManifest.parse(manifest)
        if vector is not None:
            require_vector(signed.manifest, vector)
        with locked(self.folder):
            chain, number = self.chain(), signed.manifest.number
            if number < len(chain):
                if chain[number] != signed:
                    raise two_releases(number)
                if vector is not None and not self.holds(number):
                    self._here(number).keep_weights(vector)
                return signed.manifest
            self._tidy()
            return self._keep(ReleaseContents(signed=signed, vector=vector))

    def accept_manifests(self, manifests: Sequence[SignedManifest]) -> None:
        """Verifies and keeps only the manifests of releases, oldest first. Those that are already held are skipped.

        Raises as `accept` does; those before the refused one are then kept, each of them verified.
        """
        if not manifests:
            return
        with locked(self.folder):
            chain = self.chain()
            self._tidy()
            for signed in manifests:
                number = signed.manifest.number
                if number >= len(chain):
                    self._keep(ReleaseContents(signed=signed))
                elif chain[number] != signed:
                    raise two_releases(number)

    def take(self, place: Path) -> Manifest:
        """Takes over a release whose whole folder somebody copied to `place`, on the same disk: verified as it would be
        in its own place. One that is already held is not changed.

        Raises ConfigurationError, StorageError, and then nothing has changed.
        """
        signed = ReleaseFolder(place).require_sound()
        manifest = signed.manifest
        with locked(self.folder):
            chain = self.chain()
            if manifest.number < len(chain):
                if chain[manifest.number] != signed:
                    raise two_releases(manifest.number)
                return manifest
            require_next(chain, signed, self.charters)
            with self._lock:
                move_folder(place, self._here(manifest.number).path)
                self._chain.append(signed)
        return manifest

    def rollback(self, number: int, *, key: Signer, run: str, now: datetime | None = None) -> Manifest:
        """A new release with the vector of an older one. Raises ConfigurationError for the newest release itself, and
        as `vector` and `add` do.

        Its held-out loss is the older release's. The transcript continues from the newest release, because nothing is
        removed from it.
        """
        head, old = self.head(), self.manifest(number)
        if number == head.number:
            raise ConfigurationError(f"release {number} is the newest already")
        return self.add(
            self.vector(number),
            key=key,
            run=run,
            heldout_loss=old.heldout_loss,
            transcript_head=head.transcript_head,
            restores=number,
            now=now,
        )

    def discard_after(self, number: int) -> int:
        """Removes the newest releases that rounds made, down to `number`; returns how many.

        For the coordinator's start: a release whose round was never committed was never shown to anybody. A rollback
        was made by a command, not by a round, so it stays, and so does everything before it.
        """
        with locked(self.folder):
            kept = len(self.chain())
            while kept > number + 1 and self._chain[kept - 1].manifest.round is not None:
                kept -= 1
                shutil.rmtree(self._here(kept).path)
            removed = len(self._chain) - kept
            with self._lock:
                del self._chain[kept:]
            if removed:
                sync_folder(self.folder)
        return removed

    def prune(self, *, keep: int = KEPT) -> None:
        """Removes the weights, never the manifests, of all but the newest `keep` releases and the base.

        Moments and opened sums of only the newest two releases are kept: after a crash in a round, the coordinator goes
        back by one release.
        """
        newest, first = len(self.chain()), self._pruned
        for number in range(first, newest - keep):
            self._here(number).drop_weights()
        in_force = {signed.manifest.shared_memory for signed in self._chain[-2:]}
        counted = {mark.release for mark in in_force if mark is not None}
        for number in sorted(self._counts.union(range(first, newest - 2))):
            self._here(number).drop_moments()
            if number not in counted:  # a member that joins late must see how the memory was counted
                self._here(number).drop_opened()
        self._counts = {number for number in counted if number < newest - 2}
        self._pruned = max(first, min(newest - keep, newest - 2))

    def _keep(self, contents: ReleaseContents) -> Manifest:
        """Moves the next release to its final path, whole or not at all. The folder is locked."""
        signed = contents.signed
        require_next(self._chain, signed, self.charters)
        temporary = self.folder / f".adding-{secrets.token_hex(6)}"
        try:
            contents.write(temporary)
            with self._lock:  # or another thread could read it from the disk before it is appended here
                move_folder(temporary, self._here(signed.manifest.number).path)
                self._chain.append(signed)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return signed.manifest

    def _tidy(self) -> None:
        """Removes the remains of a process that died while it wrote. It reads every name in the folder, so it runs once
        for all releases that are added together."""
        for left in self.folder.glob(".adding-*"):
            shutil.rmtree(left)


def two_releases(number: int) -> ConfigurationError:
    """The error for two different releases with the same number, both signed by the coordinator."""
    return ConfigurationError(
        f"there are two different releases {number}",
        hint="the coordinator shows different histories: stop, and tell the other members",
    )
