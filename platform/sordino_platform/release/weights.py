"""The file of a release: the trained vector as one float32 tensor, in the safetensors format.

A file has exactly one form for its length: an eight-byte length, a fixed JSON header padded with spaces to a multiple
of eight, then 4 n bytes, little-endian. We write it ourselves so that its hash is reproducible: a member that computes
the new model gets exactly the file that the coordinator signed. Reading compares the header byte by byte, so an
untrusted header is never interpreted. Any safetensors library can read the file too.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from sordino_platform.architecture import MAX_PARAMETERS, Vector
from sordino_platform.canonical import document_digest
from sordino_privacy.errors import StorageError

TENSOR = "vector"
FORMAT = "sordino-release/1"
VECTOR_LABEL = "sordino-vector/1"


def header(dimension: int) -> bytes:
    """The first bytes of the file of a vector of `dimension` float32."""
    tensor = {"dtype": "F32", "shape": [dimension], "data_offsets": [0, 4 * dimension]}
    text = json.dumps({"__metadata__": {"format": FORMAT}, TENSOR: tensor}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def file_size(dimension: int) -> int:
    """The exact size of the file, in bytes."""
    return len(header(dimension)) + 4 * dimension


def payload(vector: Vector) -> memoryview:
    """The little-endian bytes of a vector. Raises StorageError unless it is float32, one axis, finite."""
    if vector.dtype != np.float32 or vector.ndim != 1 or not 1 <= vector.size <= MAX_PARAMETERS:
        raise StorageError("a release holds one float32 vector of 1 to 2^30 values")
    if not np.isfinite(vector).all():
        raise StorageError("the vector of the release holds a value that is not finite")
    return np.ascontiguousarray(vector, dtype="<f4").data.cast("B")


def file_sha256(vector: Vector) -> bytes:
    """SHA-256 of the file that holds `vector`."""
    hasher = hashlib.sha256(header(vector.size))
    hasher.update(payload(vector))
    return hasher.digest()


def vector_hash(vector: Vector) -> bytes:
    """The model hash, 32 bytes, which the secure-aggregation context names. It does not depend on a file format."""
    return document_digest(VECTOR_LABEL, payload(vector))


def parse_weights(
    data: bytes, *, dimension: int, sha256: bytes, what: str = "the release's weights"
) -> Vector:
    """The vector in a file, read-only, without a copy.

    Raises StorageError for another length, another hash, another header, or a value that is not finite; sizes and
    hash are checked before anything else.
    """
    start = header(dimension)
    if len(data) != len(start) + 4 * dimension:
        raise StorageError(
            f"{what} have {len(data)} bytes instead of {len(start) + 4 * dimension}: truncated or extended",
            hint="fetch the release again",
        )
    if hashlib.sha256(data).digest() != sha256:
        raise StorageError(f"{what} do not match the signed hash", hint="fetch the release again")
    if not data.startswith(start):
        raise StorageError(f"{what} do not have the header of a release")
    vector = np.frombuffer(data, dtype="<f4", offset=len(start)).astype(np.float32, copy=False)
    if not np.isfinite(vector).all():
        raise StorageError(f"{what} hold a value that is not finite")
    return vector
