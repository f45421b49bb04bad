"""Signed model releases: a chain that every member verifies, and the bundle that its completion process serves.

>>> store = ReleaseStore(folder, identity.charters)
>>> vector = store.vector()                      # verified, the newest
"""

from sordino_platform.release.bundle import write_serving_bundle
from sordino_platform.release.manifest import Manifest, SignedManifest, dimension_of, require_next
from sordino_platform.release.store import ReleaseStore
from sordino_platform.release.weights import parse_weights, vector_hash

__all__ = [
    "Manifest",
    "ReleaseStore",
    "SignedManifest",
    "dimension_of",
    "parse_weights",
    "require_next",
    "vector_hash",
    "write_serving_bundle",
]
