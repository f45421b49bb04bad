"""The releases that a party holds: `releases/000007/manifest.json` and `weights.safetensors`.

The coordinator adds to its store with its key; a member's store accepts what the coordinator sends. Both verify the
whole chain when it is read, and both add a release whole or not at all: its folder is written beside its place,
fsynced and renamed. Manifests are kept for ever; the weights of old releases may be pruned.

    >>> store = ReleaseStore(folder, identity.charters)
    >>> store.add(vector, key=identity.signing_key, run="r1", round=3, members=names, heldout_loss=2.31)
    >>> mine.accept(store.manifest_bytes(4), vector)
"""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from sordino_platform.architecture import Vector
from sordino_platform.canonical import first_problem, moment
from sordino_platform.charter import Charter, CharterStore
from sordino_platform.durable import (
    locked,
    make_folder,
    map_file,
    move_folder,
    read_file,
    write_file,
)
from sordino_platform.machine.files import sync_folder
from sordino_platform.release.manifest import (
    MAX_MANIFEST_BYTES,
    NO_PARENT,
    Manifest,
    MemoryMark,
    SignedManifest,
    require_next,
    require_signed,
)
from sordino_platform.release.optimiser import Moments, ServerOptimiser
from sordino_platform.release.weights import (
    file_sha256,
    file_size,
    header,
    parse_weights,
    payload,
    vector_hash,
)
from sordino_privacy.counts import SharedMemory
from sordino_privacy.counts.reading import MAX_MEMORY_BYTES
from sordino_privacy.errors import ConfigurationError, StorageError
from sordino_privacy.signing import Signer

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
MOMENT = "moment-{}.safetensors"
OPENED = "opened"
MEMORY = "shared-memory.bin"
KEPT = 3
"""Of the newest so many releases the weights are kept."""
MAX_SHOWN_BYTES = 5 << 30


class ReleaseStore:
    """A folder of releases, verified against the charters of `charters`."""

    def __init__(self, folder: Path, charters: CharterStore) -> None:
        make_folder(folder)
        self.folder = folder
        self.charters = charters
        self._chain: list[SignedManifest] = []
        self._lock = threading.Lock()  # an agent's link and its control endpoint read at the same time
        # Releases below are pruned, and these counted a memory that was in force then: only what was added since, and
        # they, are looked at again.
        self._pruned = 1
        self._counts: set[int] = set()

    def chain(self) -> tuple[SignedManifest, ...]:
        """Every release, oldest first, verified. What another process added since the last call is read now.

        Raises StorageError for a gap or a damaged file, ConfigurationError for a release that breaks a rule.
        """
        with self._lock:
            while (self._place(len(self._chain))).exists():
                path = self._place(len(self._chain)) / MANIFEST
                signed = SignedManifest.parse(read_file(path, limit=MAX_MANIFEST_BYTES), what=str(path))
                require_next(self._chain, signed, self.charters)
                self._chain.append(signed)
            return tuple(self._chain)

    def look(self) -> Manifest | None:
        """The newest manifest as it lies here, signed, and nothing before it read: for who shows it and decides
        nothing. None where there is no release. Raises StorageError, ConfigurationError."""
        numbers = [int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()]
        if not numbers:
            return None
        path = self._place(max(numbers)) / MANIFEST
        signed = SignedManifest.parse(read_file(path, limit=MAX_MANIFEST_BYTES), what=str(path))
        require_signed(signed, self.charters)
        return signed.manifest

    def verify(self, *, weights: bool = False) -> tuple[SignedManifest, ...]:
        """Reads everything anew; with `weights`, every vector that is held too. Raises StorageError for what is
        damaged, as `chain` and `vector` do."""
        self._chain.clear()
        chain = self.chain()
        beyond = [
            path.name
            for path in self.folder.iterdir()
            if path.name.isdecimal() and int(path.name) >= len(chain)
        ]
        if beyond:
            raise StorageError(
                f"release {len(chain)} is missing from {self.folder}, and {min(beyond)} is there",
                hint="restore the folder from a backup, or fetch the releases again",
            )
        for number in range(len(chain)) if weights else ():
            if self.holds(number):
                self.vector(number)
        return chain

    def head(self) -> Manifest:
        """The newest release. Raises ConfigurationError when there is none."""
        chain = self.chain()
        if not chain:
            raise ConfigurationError(f"{self.folder} holds no release yet")
        return chain[-1].manifest

    def manifest(self, number: int) -> Manifest:
        """The manifest of a release. Raises ConfigurationError when there is no such release."""
        return self._signed(number).manifest

    def manifest_bytes(self, number: int) -> bytes:
        """The signed manifest as it travels."""
        return self._signed(number).to_bytes()

    def first_within(self, limit: int) -> int:
        """The oldest release from which on the manifests of all take at most `limit` bytes together; the newest, where
        that alone takes more. Raises as `chain` does."""
        number, total = len(self.chain()), 0
        while number > 0 and (total := total + self._manifest_size(number - 1)) <= limit:
            number -= 1
        return min(number, len(self._chain) - 1)

    def _manifest_size(self, number: int) -> int:
        return (self._place(number) / MANIFEST).stat().st_size

    def holds(self, number: int) -> bool:
        """Whether the weights of a release are here (a member that joined late, or a pruned release, has none)."""
        return (self._place(number) / WEIGHTS).exists()

    def newest_held(self) -> int:
        """The number of the newest release whose weights are here, -1 where there is none. Raises as `chain` does."""
        return next((number for number in reversed(range(len(self.chain()))) if self.holds(number)), -1)

    def weights_path(self, number: int) -> Path:
        """The file of a release's weights. Raises ConfigurationError when it is not held."""
        self._signed(number)
        if not self.holds(number):
            raise ConfigurationError(
                f"the weights of release {number} are not kept here",
                hint="fetch them from the coordinator, or choose a newer release",
            )
        return self._place(number) / WEIGHTS

    def vector(self, number: int | None = None) -> Vector:
        """The verified float32 vector of a release (the newest by default), read-only, shape `(dimension,)`.

        Raises StorageError when the file was truncated, extended or altered.
        """
        manifest = self.head() if number is None else self.manifest(number)
        path = self.weights_path(manifest.number)
        data = read_file(path, limit=file_size(manifest.dimension))
        return parse_weights(
            data, dimension=manifest.dimension, sha256=manifest.weights_sha256, what=f"the weights in {path}"
        )

    def moments(self, number: int | None = None) -> Moments:
        """The verified state of the server optimiser after a release (the newest by default); empty where it begins
        anew.

        Raises StorageError when a file is missing, truncated or altered.
        """
        manifest = self.head() if number is None else self.manifest(number)
        place, size = self._place(manifest.number), file_size(manifest.dimension)
        return tuple(
            parse_weights(
                read_file(place / MOMENT.format(index), limit=size),
                dimension=manifest.dimension,
                sha256=sha256,
                what=f"moment {index} of release {manifest.number}",
            )
            for index, sha256 in enumerate(manifest.moments)
        )

    def shared_memory(self, number: int | None = None) -> SharedMemory | None:
        """The verified shared memory in force after a release (the newest by default); None where there is none, or
        where it is not held.

        Raises StorageError when the file was altered.
        """
        mark = (self.head() if number is None else self.manifest(number)).shared_memory
        path = None if mark is None else self._place(mark.release) / MEMORY
        if mark is None or path is None or not path.exists():
            return None
        memory = SharedMemory.decode(read_file(path, limit=MAX_MEMORY_BYTES))
        if memory.digest() != mark.sha256:
            raise StorageError(f"{path} does not match the signed hash", hint="fetch the release again")
        return memory

    def remembers(self, sha256: bytes) -> bool:
        """Whether the shared memory with that hash is held, in force or not."""
        marks = (signed.manifest.shared_memory for signed in self.chain())
        return any(
            mark is not None and mark.sha256 == sha256 and (self._place(mark.release) / MEMORY).exists()
            for mark in marks
        )

    def keep_memory(self, memory: SharedMemory) -> None:
        """Keeps the memory that the newest release has in force, beside the release that counted it. Raises
        ConfigurationError when it is another one, StorageError."""
        mark = self.head().shared_memory
        if mark is None or memory.digest() != mark.sha256:
            raise ConfigurationError("the shared memory is not the one of the newest release")
        with locked(self.folder):
            write_file(self._place(mark.release) / MEMORY, memory.encode(), secret=True)

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
        """Signs and keeps the next release, under `charter`, or the newest one. When it returns, the release survives
        a crash.

        `counted` is the memory of a round that counted phrases; after any other round the one in force stays.
        `opened` are files that show how a round made it, by name: kept as long as members may ask for them.
        Raises StorageError for a full disk or a vector that is not finite, ConfigurationError for a broken rule.
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
            return self._keep(SignedManifest.sign(manifest, key), vector, moments, opened, counted)

    def _mark(
        self, chain: Sequence[SignedManifest], restores: int | None, counted: SharedMemory | None
    ) -> MemoryMark | None:
        """What the next release says of the shared memory."""
        if counted is not None:
            return MemoryMark(sha256=counted.digest(), release=len(chain))
        if restores is not None:
            return self.manifest(restores).shared_memory
        return chain[-1].manifest.shared_memory if chain else None

    def accept(self, manifest: bytes, vector: Vector | None) -> Manifest:
        """Verifies and keeps a release from the coordinator; `vector` is what the member computed or received.

        Without a vector only the manifest is kept: that is how a member that joins late walks the chain up to the
        newest release. A release that is held already is accepted again; a missing vector is then filled in.
        Raises ConfigurationError, StorageError; nothing has changed then.
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
                    write_file(self._place(number) / WEIGHTS, header(vector.size), payload(vector))
                return signed.manifest
            self._tidy()
            return self._keep(signed, vector)

    def accept_manifests(self, manifests: Sequence[SignedManifest]) -> None:
        """Verifies and keeps the manifests alone of releases, oldest first; those that are held are passed over.

        Raises as `accept` does; those before the one that was refused are then kept, each of them verified.
        """
        if not manifests:
            return
        with locked(self.folder):
            chain = self.chain()
            self._tidy()
            for signed in manifests:
                number = signed.manifest.number
                if number >= len(chain):
                    self._keep(signed, None)
                elif chain[number] != signed:
                    raise two_releases(number)

    def take(self, place: Path) -> Manifest:
        """Takes over a release whose whole folder somebody copied to `place`, on the same disk: verified as it would be
        in its own place. One that is held already is left as it is.

        Raises ConfigurationError, StorageError; nothing has changed then.
        """
        signed = SignedManifest.parse(read_file(place / MANIFEST, limit=MAX_MANIFEST_BYTES), what=str(place))
        manifest, what = signed.manifest, f"the copy of release {signed.manifest.number}"
        size = file_size(manifest.dimension)
        files = {WEIGHTS: manifest.weights_sha256}
        files |= {MOMENT.format(index): sha256 for index, sha256 in enumerate(manifest.moments)}
        for name, sha256 in files.items():
            if (place / name).exists():
                data = read_file(place / name, limit=size)
                parse_weights(data, dimension=manifest.dimension, sha256=sha256, what=f"{name} in {what}")
        if manifest.counted and manifest.shared_memory is not None:
            memory = SharedMemory.decode(read_file(place / MEMORY, limit=MAX_MEMORY_BYTES))
            if memory.digest() != manifest.shared_memory.sha256:
                raise StorageError(f"the shared memory in {what} does not match the signed hash")
        with locked(self.folder):
            chain = self.chain()
            if manifest.number < len(chain):
                if chain[manifest.number] != signed:
                    raise two_releases(manifest.number)
                return manifest
            require_next(chain, signed, self.charters)
            with self._lock:
                move_folder(place, self._place(manifest.number))
                self._chain.append(signed)
        return manifest

    def read(self, number: int) -> Manifest:
        """The manifest of a release as it lies here, verified by nobody. Raises StorageError, ConfigurationError."""
        path = self._place(number) / MANIFEST
        return SignedManifest.parse(read_file(path, limit=MAX_MANIFEST_BYTES), what=str(path)).manifest

    def rollback(self, number: int, *, key: Signer, run: str, now: datetime | None = None) -> Manifest:
        """A new release with the vector of an older one. Raises ConfigurationError for the newest release itself, and
        as `vector` and `add` do.

        Its held-out loss is the older one's; the transcript goes on from the newest, because nothing is taken out
        of it.
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
        was made by command and is no round's: it stays, and so does everything before it.
        """
        with locked(self.folder):
            kept = len(self.chain())
            while kept > number + 1 and self._chain[kept - 1].manifest.round is not None:
                kept -= 1
                shutil.rmtree(self._place(kept))
            removed = len(self._chain) - kept
            with self._lock:
                del self._chain[kept:]
            if removed:
                sync_folder(self.folder)
        return removed

    def prune(self, *, keep: int = KEPT) -> None:
        """Removes the weights, never the manifests, of all but the newest `keep` releases and the base.

        Moments and opened sums are kept of the newest two only: a round that a crash cut short goes back by one.
        """
        newest, first = len(self.chain()), self._pruned
        for number in range(first, newest - keep):
            (self._place(number) / WEIGHTS).unlink(missing_ok=True)
        in_force = {signed.manifest.shared_memory for signed in self._chain[-2:]}
        counted = {mark.release for mark in in_force if mark is not None}
        for number in sorted(self._counts.union(range(first, newest - 2))):
            place = self._place(number)
            for path in place.glob(MOMENT.format("*")):
                path.unlink(missing_ok=True)
            if number not in counted:  # who comes late must be shown how the memory was counted
                shutil.rmtree(place / OPENED, ignore_errors=True)
        self._counts = {number for number in counted if number < newest - 2}
        self._pruned = max(first, min(newest - keep, newest - 2))

    def opened(self, number: int) -> dict[str, memoryview] | None:
        """The files that show how a round made a release, by name, mapped; None where they are not kept."""
        self.manifest(number)
        place = self._place(number) / OPENED
        if not place.exists():
            return None
        return {path.name: map_file(path, limit=MAX_SHOWN_BYTES) for path in sorted(place.iterdir())}

    def _keep(
        self,
        signed: SignedManifest,
        vector: Vector | None,
        moments: Moments = (),
        opened: Mapping[str, bytes | memoryview] | None = None,
        counted: SharedMemory | None = None,
    ) -> Manifest:
        require_next(self._chain, signed, self.charters)
        place = self._place(signed.manifest.number)
        temporary = self.folder / f".adding-{secrets.token_hex(6)}"
        make_folder(temporary)
        try:
            if vector is not None:
                write_file(temporary / WEIGHTS, header(vector.size), payload(vector))
            for index, moment in enumerate(moments):
                write_file(temporary / MOMENT.format(index), header(moment.size), payload(moment))
            if counted is not None:
                write_file(temporary / MEMORY, counted.encode(), secret=True)
            if opened:
                make_folder(temporary / OPENED)
                for name, data in opened.items():
                    write_file(temporary / OPENED / name, data)
            write_file(temporary / MANIFEST, signed.to_bytes())
            with self._lock:  # or another thread would read it from the disk before it is appended here
                move_folder(temporary, place)
                self._chain.append(signed)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return signed.manifest

    def _tidy(self) -> None:
        """Removes what a process left that died while it wrote. It looks at every name in the folder: once for all that
        is added together."""
        for left in self.folder.glob(".adding-*"):
            shutil.rmtree(left)

    def _signed(self, number: int) -> SignedManifest:
        chain = self.chain()
        if not 0 <= number < len(chain):
            raise ConfigurationError(
                f"there is no release {number}", hint=f"the newest is {len(chain) - 1}" if chain else ""
            )
        return chain[number]

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:06d}"


def two_releases(number: int) -> ConfigurationError:
    """What is wrong where one number has two releases that the coordinator signed."""
    return ConfigurationError(
        f"there are two different releases {number}",
        hint="the coordinator shows different histories: stop, and tell the other members",
    )


def next_model(
    before: Manifest, optimiser: ServerOptimiser, model: Vector, mean: Vector, moments: Sequence[Vector]
) -> tuple[Vector, Moments]:
    """One step of the server optimiser after the release `before`, whose model is `model`; the same on both sides.

    `moments` are those of `before`; none where it has none or another optimiser made it. Raises ConfigurationError when
    they are not the ones that `before` signs.
    """
    known = before.moments if before.optimiser == optimiser else ()
    if tuple(map(file_sha256, moments)) != known:
        raise ConfigurationError(f"the optimiser's moments are not those of release {before.number}")
    return optimiser.step(model, mean, tuple(moments) or optimiser.fresh(model.size))


def require_vector(manifest: Manifest, vector: Vector) -> None:
    """Raises ConfigurationError unless `vector` is the one that the manifest signs, StorageError unless it is
    finite."""
    if vector.size != manifest.dimension or vector_hash(vector) != manifest.vector_hash:
        raise ConfigurationError(
            f"the vector is not the one of release {manifest.number}",
            hint="old model plus published sum must give the signed hash; do not use this release",
        )
    if file_sha256(vector) != manifest.weights_sha256:
        raise ConfigurationError(f"release {manifest.number} signs a file that does not hold its vector")
