"""Signed model releases: a chain that every member verifies, and the bundle that its completion process serves.

>>> store = ReleaseStore(folder, identity.charters)
>>> vector = store.vector()                      # verified, the newest
"""

from sordino_platform.release.bundle import write_base_bundle, write_serving_bundle
from sordino_platform.release.manifest import Manifest, SignedManifest, dimension_of, require_next
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_platform.release.steps import next_model
from sordino_platform.release.store import ReleaseStore
from sordino_platform.release.weights import parse_weights, vector_hash

__all__ = [
    "Manifest",
    "ReleaseStore",
    "ServerOptimiser",
    "SignedManifest",
    "dimension_of",
    "next_model",
    "parse_weights",
    "require_next",
    "vector_hash",
    "write_base_bundle",
    "write_serving_bundle",
]
