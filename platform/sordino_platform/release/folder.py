"""One release on the disk: its files, each of them verified when it is read.

    releases/000007/
      manifest.json            signed; kept for ever
      weights.safetensors      the model's vector; may be missing for old releases
      moment-0.safetensors …   the server optimiser's state after it
      shared-memory.bin        of a release that counted phrases
      opened/                  how its round made it

`sordino_platform.release.store` decides whether a release is right in its chain.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sordino_platform.architecture import Vector
from sordino_platform.durable import make_folder, map_file, read_file, write_file
from sordino_platform.release.manifest import MAX_MANIFEST_BYTES, Manifest, MemoryMark, SignedManifest
from sordino_platform.release.optimiser import Moments
from sordino_platform.release.weights import file_size, header, parse_weights, payload
from sordino_privacy.counts import SharedMemory
from sordino_privacy.counts.reading import MAX_MEMORY_BYTES
from sordino_privacy.errors import StorageError

MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "weights.safetensors"
MOMENT: Final = "moment-{}.safetensors"
OPENED: Final = "opened"
MEMORY: Final = "shared-memory.bin"
MAX_SHOWN_BYTES: Final = 5 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseContents:
    """The contents for a release's folder. `vector` is None when only the manifest is known; `counted` is the memory of
    a round that counted; `opened` are files that show how a round made the release, by name."""

    signed: SignedManifest
    vector: Vector | None = field(default=None, repr=False)
    moments: Moments = field(default=(), repr=False)
    opened: Mapping[str, bytes | memoryview] = field(default_factory=dict, repr=False)
    counted: SharedMemory | None = field(default=None, repr=False)

    def write(self, folder: Path) -> None:
        """Makes `folder`. The manifest is written last. Raises StorageError; the caller then removes what was
        written."""
        make_folder(folder)
        if self.vector is not None:
            write_file(folder / WEIGHTS, header(self.vector.size), payload(self.vector))
        for index, moment in enumerate(self.moments):
            write_file(folder / MOMENT.format(index), header(moment.size), payload(moment))
        if self.counted is not None:
            write_file(folder / MEMORY, self.counted.encode(), secret=True)
        if self.opened:
            make_folder(folder / OPENED)
            for name, data in self.opened.items():
                write_file(folder / OPENED / name, data)
        write_file(folder / MANIFEST, self.signed.to_bytes())


@dataclass(frozen=True, slots=True)
class ReleaseFolder:
    """The folder of one release at `path`, whether or not it exists."""

    path: Path

    def signed(self) -> SignedManifest:
        """The manifest as it is stored, not verified. Raises StorageError, ConfigurationError."""
        path = self.path / MANIFEST
        return SignedManifest.parse(read_file(path, limit=MAX_MANIFEST_BYTES), what=str(path))

    def manifest_bytes(self) -> int:
        """The length of the signed manifest, in bytes."""
        return (self.path / MANIFEST).stat().st_size

    @property
    def weights(self) -> Path:
        """The path of the weights' file, which may be missing."""
        return self.path / WEIGHTS

    def holds_weights(self) -> bool:
        """Whether the weights are here."""
        return self.weights.exists()

    def vector(self, manifest: Manifest) -> Vector:
        """The float32 vector that `manifest` signs, read-only, shape `(dimension,)`.

        Raises StorageError when the file is missing, truncated, extended or altered.
        """
        return parse_weights(
            read_file(self.weights, limit=file_size(manifest.dimension)),
            dimension=manifest.dimension,
            sha256=manifest.weights_sha256,
            what=f"the weights in {self.weights}",
        )

    def moments(self, manifest: Manifest) -> Moments:
        """The optimiser's state that `manifest` signs. Raises StorageError when a file is missing or altered."""
        return tuple(self._moment(manifest, index) for index in range(len(manifest.moments)))

    def _moment(self, manifest: Manifest, index: int) -> Vector:
        return parse_weights(
            read_file(self.path / MOMENT.format(index), limit=file_size(manifest.dimension)),
            dimension=manifest.dimension,
            sha256=manifest.moments[index],
            what=f"moment {index} of release {manifest.number}",
        )

    def holds_memory(self) -> bool:
        """Whether the memory that this release counted is held here."""
        return (self.path / MEMORY).exists()

    def memory(self, mark: MemoryMark) -> SharedMemory:
        """The memory that this release counted. Raises StorageError when the file is missing or not the one that
        `mark` signs."""
        path = self.path / MEMORY
        memory = SharedMemory.decode(read_file(path, limit=MAX_MEMORY_BYTES))
        if memory.digest() != mark.sha256:
            raise StorageError(f"{path} does not match the signed hash", hint="fetch the release again")
        return memory

    def opened(self) -> dict[str, memoryview] | None:
        """The files that show how a round made the release, by name, memory-mapped; None when they are not kept."""
        place = self.path / OPENED
        if not place.exists():
            return None
        return {path.name: map_file(path, limit=MAX_SHOWN_BYTES) for path in sorted(place.iterdir())}

    def require_sound(self) -> SignedManifest:
        """The manifest of a copy, after a check that every file is the one that it signs. Files that may be pruned may
        be missing.

        Raises ConfigurationError, StorageError.
        """
        signed = self.signed()
        manifest = signed.manifest
        if self.holds_weights():
            self.vector(manifest)
        for index in range(len(manifest.moments)):
            if (self.path / MOMENT.format(index)).exists():
                self._moment(manifest, index)
        if manifest.counted and manifest.shared_memory is not None:
            self.memory(manifest.shared_memory)
        return signed

    def keep_weights(self, vector: Vector) -> None:
        """Adds the weights. Raises StorageError."""
        write_file(self.weights, header(vector.size), payload(vector))

    def keep_memory(self, memory: SharedMemory) -> None:
        """Adds the memory. Raises StorageError."""
        write_file(self.path / MEMORY, memory.encode(), secret=True)

    def drop_weights(self) -> None:
        """Removes the weights, if they exist."""
        self.weights.unlink(missing_ok=True)

    def drop_moments(self) -> None:
        """Removes the optimiser's state, if it exists."""
        for path in self.path.glob(MOMENT.format("*")):
            path.unlink(missing_ok=True)

    def drop_opened(self) -> None:
        """Removes the files that show how a round made it, if they exist."""
        shutil.rmtree(self.path / OPENED, ignore_errors=True)
