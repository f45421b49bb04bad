"""From one release to the next, the same on both sides: the result of a step, and whether a vector is the signed one.

Pure: a member repeats these steps and compares (sordino_platform.following).
"""

from __future__ import annotations

from collections.abc import Sequence

from sordino_platform.architecture import Vector
from sordino_platform.release.manifest import Manifest
from sordino_platform.release.optimiser import Moments, ServerOptimiser
from sordino_platform.release.weights import file_sha256, vector_hash
from sordino_privacy.errors import ConfigurationError


def next_model(
    before: Manifest, optimiser: ServerOptimiser, model: Vector, mean: Vector, moments: Sequence[Vector]
) -> tuple[Vector, Moments]:
    """One step of the server optimiser after the release `before`, whose model is `model`; the same on both sides.

    `moments` are those of `before`; empty when it has none or another optimiser made it. Raises ConfigurationError when
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
