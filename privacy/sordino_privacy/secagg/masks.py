"""Masks: AES-256-CTR keystreams read as little-endian ring elements and added into a vector.

AES-CTR because it is twice as fast as ChaCha20 on any CPU with AES instructions, and seekable: element i of a mask
depends on block i * size // 16 alone, so that threads take slices of the vector and a member masks while it sends.

The inner loop is chunk-major: a chunk of the vector stays in the core's cache while every key's stream is added to
it. Each stream keeps one encryptor for its whole life, and all encrypt the same shared zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

CHUNK_BYTES = 1 << 18
BLOCK_BYTES = 16
ZEROS = memoryview(bytes(CHUNK_BYTES))  # read-only, shared by every stream of every thread
RingVector = npt.NDArray[np.unsignedinteger[Any]]


class Stream:
    """The AES-256-CTR keystream of one key from block `block` on. IV 0: a key is used for one mask only."""

    def __init__(self, key: bytes, block: int = 0) -> None:
        self._encryptor = Cipher(AES(key), CTR(block.to_bytes(BLOCK_BYTES, "big"))).encryptor()

    def seek(self, block: int) -> None:
        self._encryptor.reset_nonce(block.to_bytes(BLOCK_BYTES, "big"))

    def fill(self, out: RingVector) -> None:
        """Overwrites `out` (contiguous, at most CHUNK_BYTES, a multiple of 16 bytes unless it is the last)."""
        view = out.view(np.uint8).data
        self._encryptor.update_into(ZEROS[: len(view)], view)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """One mask: a 32-byte key and whether its stream is added or subtracted."""

    key: bytes
    add: bool

    def __repr__(self) -> str:
        return "Mask(<key withheld>)"


def apply(vector: RingVector, masks: Sequence[Mask], *, threads: int = 1) -> None:
    """Adds or subtracts every mask, in place, over the whole `vector` (little-endian uint16 or uint32, contiguous).

    With `threads` > 1 each thread takes one contiguous slice; pyca and numpy release the GIL.
    """
    per_block = BLOCK_BYTES // vector.itemsize
    share = -(-len(vector) // (threads * per_block)) * per_block
    parts = (
        [(low, min(low + share, len(vector))) for low in range(0, len(vector), share)] if len(vector) else []
    )
    if len(parts) <= 1:
        apply_at(vector, 0, masks)
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        for done in [pool.submit(apply_at, vector[low:high], low, masks) for low, high in parts]:
            done.result()


def apply_at(vector: RingVector, offset: int, masks: Sequence[Mask]) -> None:
    """`apply` on one thread, for the slice of a longer vector that begins at element `offset` (block-aligned)."""
    block = offset * vector.itemsize // BLOCK_BYTES
    streams = [(Stream(mask.key, block), np.add if mask.add else np.subtract) for mask in masks]
    add_streams(vector, streams)


def add_streams(vector: RingVector, streams: Sequence[tuple[Stream, np.ufunc]]) -> None:
    """The fused loop: chunk by chunk, every stream's next piece is drawn and added."""
    size = CHUNK_BYTES // vector.itemsize
    buffer = np.empty(min(size, len(vector)), vector.dtype)
    for low in range(0, len(vector), size):
        chunk = vector[low : low + size]
        piece = buffer[: len(chunk)]
        for stream, operation in streams:
            stream.fill(piece)
            operation(chunk, piece, out=chunk)
