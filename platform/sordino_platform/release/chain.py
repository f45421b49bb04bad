"""Reads the chain of releases: verifies every link, and finds each release's files by its number.

Releases that another process adds are read at the next call: nothing here holds a lock on the folder.
`sordino_platform.release.store` adds and removes releases.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sordino_platform.architecture import Vector
from sordino_platform.charter import CharterStore
from sordino_platform.durable import make_folder
from sordino_platform.release.folder import ReleaseFolder
from sordino_platform.release.manifest import Manifest, SignedManifest, require_next, require_signed
from sordino_platform.release.optimiser import Moments
from sordino_privacy.counts import SharedMemory
from sordino_privacy.errors import ConfigurationError, StorageError


class ReleaseChain:
    """The releases in `folder`, verified against the charters of `charters`. A missing folder is made."""

    def __init__(self, folder: Path, charters: CharterStore) -> None:
        make_folder(folder)
        self.folder = folder
        self.charters = charters
        self._chain: list[SignedManifest] = []
        self._lock = threading.Lock()  # an agent's link and its control endpoint read at the same time

    def chain(self) -> tuple[SignedManifest, ...]:
        """Every release, oldest first, verified. Releases that another process added since the last call are read now.

        Raises StorageError for a gap or a damaged file, ConfigurationError for a release that breaks a rule.
        """
        with self._lock:
            while (here := self._here(len(self._chain))).path.exists():
                signed = here.signed()
                require_next(self._chain, signed, self.charters)
                self._chain.append(signed)
            return tuple(self._chain)

    def look(self) -> Manifest | None:
        """The newest signed manifest as it is stored, without reading the chain before it. Use it only to show, never
        to decide. None when there is no release. Raises StorageError, ConfigurationError."""
        numbers = [int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()]
        if not numbers:
            return None
        signed = self._here(max(numbers)).signed()
        require_signed(signed, self.charters)
        return signed.manifest

    def verify(self, *, weights: bool = False) -> tuple[SignedManifest, ...]:
        """Reads everything again; with `weights`, every held vector too. Raises StorageError for damage, as `chain` and
        `vector` do."""
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
        """The bytes of the signed manifest."""
        return self._signed(number).to_bytes()

    def first_within(self, limit: int) -> int:
        """The oldest release such that its manifest and all later ones together take at most `limit` bytes. If the
        newest alone takes more, the newest. Raises as `chain` does."""
        number, total = len(self.chain()), 0
        while number > 0 and (total := total + self._here(number - 1).manifest_bytes()) <= limit:
            number -= 1
        return min(number, len(self._chain) - 1)

    def holds(self, number: int) -> bool:
        """Whether the weights of a release are here (a member that joined late, or a pruned release, has none)."""
        return self._here(number).holds_weights()

    def newest_held(self) -> int:
        """The number of the newest release whose weights are held here; -1 when there is none. Raises as `chain`
        does."""
        return next((number for number in reversed(range(len(self.chain()))) if self.holds(number)), -1)

    def weights_path(self, number: int) -> Path:
        """The path of a release's weights. Raises ConfigurationError when they are not held."""
        self._signed(number)
        if not self.holds(number):
            raise ConfigurationError(
                f"the weights of release {number} are not kept here",
                hint="fetch them from the coordinator, or choose a newer release",
            )
        return self._here(number).weights

    def vector(self, number: int | None = None) -> Vector:
        """The verified float32 vector of a release (the newest by default), read-only, shape `(dimension,)`.

        Raises StorageError when the file was truncated, extended or altered.
        """
        manifest = self.head() if number is None else self.manifest(number)
        self.weights_path(manifest.number)  # says what to do when they are not held
        return self._here(manifest.number).vector(manifest)

    def moments(self, number: int | None = None) -> Moments:
        """The verified state of the server optimiser after a release (the newest by default); empty when it starts
        again from zero.

        Raises StorageError when a file is missing, truncated or altered.
        """
        manifest = self.head() if number is None else self.manifest(number)
        return self._here(manifest.number).moments(manifest)

    def shared_memory(self, number: int | None = None) -> SharedMemory | None:
        """The verified shared memory in force after a release (the newest by default); None when there is none, or when
        it is not held.

        Raises StorageError when the file was altered.
        """
        mark = (self.head() if number is None else self.manifest(number)).shared_memory
        if mark is None or not self._here(mark.release).holds_memory():
            return None
        return self._here(mark.release).memory(mark)

    def remembers(self, sha256: bytes) -> bool:
        """Whether the shared memory with that hash is held, in force or not."""
        marks = (signed.manifest.shared_memory for signed in self.chain())
        return any(
            mark is not None and mark.sha256 == sha256 and self._here(mark.release).holds_memory()
            for mark in marks
        )

    def opened(self, number: int) -> dict[str, memoryview] | None:
        """The files that show how a round made a release, by name, memory-mapped; None when they are not kept."""
        self.manifest(number)
        return self._here(number).opened()

    def read(self, number: int) -> Manifest:
        """The manifest of a release as it is stored, not verified. Raises StorageError, ConfigurationError."""
        return self._here(number).signed().manifest

    def _signed(self, number: int) -> SignedManifest:
        chain = self.chain()
        if not 0 <= number < len(chain):
            raise ConfigurationError(
                f"there is no release {number}", hint=f"the newest is {len(chain) - 1}" if chain else ""
            )
        return chain[number]

    def _here(self, number: int) -> ReleaseFolder:
        return ReleaseFolder(self.folder / f"{number:06d}")
