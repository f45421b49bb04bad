"""What a member signs about its upload after the set of survivors is fixed: a linear digest and, if the charter asks
for it, a sketch of its update's length.

    challenge   fixed by the survivors' nonces after the coordinator committed to the sum of the masked uploads
    digest      ROWS random combinations of the *masked* upload, exact integers. Digests add up as uploads do, so they
                show whether the coordinator's sum is the sum of what was uploaded. They reveal nothing about an update
                that the masked upload itself does not.
    length      BLOCKS x BUCKETS signed sums of the *plain* quantised update, in units of the update: BLOCKS sparse
                random projections (Kane and Nelson 2014), whose squared length is the update's in expectation.

A sum that differs anywhere passes one row with probability at most 2^-32, and all rows with at most 2^-128 (Schwartz
and Zippel), because the coefficients are 32-bit words and all arithmetic is exact.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from sordino_privacy.secagg import keys
from sordino_privacy.secagg.encoding import NAME_BYTES, SIGNATURE_BYTES, MessageReader, Writer, digest
from sordino_privacy.secagg.masks import MaskStream, RingVector
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.quantise import Quantiser
from sordino_privacy.secagg.refusals import IdentityError, MalformedError
from sordino_privacy.secagg.rounding import signed_view
from sordino_privacy.signing import Signer

ROWS = 4
BLOCKS, BUCKETS = 4, 32
PROJECTIONS = BLOCKS * BUCKETS
DIGEST_BYTES = 16  # of one row: 32-bit coefficients, 2^30 elements below 2^46 each
CHUNK = 1 << 13  # elements: products of 32 + LIMB bits add up below 2^64
LIMB = 19
MAX_SKETCH_BYTES = NAME_BYTES + ROWS * DIGEST_BYTES + 2 + 8 * PROJECTIONS + SIGNATURE_BYTES

Digest = tuple[int, ...]
Projections = npt.NDArray[np.float64]


def challenge(
    roster_hash: bytes, u3_hash: bytes, total_hash: bytes, nonces: Iterable[tuple[str, bytes]]
) -> bytes:
    """The challenge: 32 bytes that nobody knew before the last nonce was drawn. `nonces` by name, in order."""
    parts = (part for name, nonce in nonces for part in (name.encode(), nonce))
    return digest("challenge", roster_hash, u3_hash, total_hash, *parts)


class Rows:
    """ROWS combinations of integers that come in order, in chunks, from element `start` on, a multiple of 4."""

    def __init__(self, seed: bytes, *, start: int = 0) -> None:
        self._streams = [
            MaskStream(digest("row", seed, bytes([row])), block=start // 4) for row in range(ROWS)
        ]
        self._words = np.empty((ROWS, CHUNK), "<u4")
        self._wide = np.empty((ROWS, CHUNK), np.uint64)
        self._totals = [0] * ROWS

    def add(self, values: npt.NDArray[np.uint64], bits: int) -> None:
        """The next elements, at most CHUNK (fewer only at the end), each below 2^bits."""
        words, coefficients = self._words[:, : len(values)], self._wide[:, : len(values)]
        for row, stream in enumerate(self._streams):
            stream.fill(words[row])
        np.copyto(coefficients, words)
        for low in range(0, bits, LIMB):
            limb = values if bits <= LIMB else values >> np.uint64(low) & np.uint64((1 << LIMB) - 1)
            # Not `@`, which writes each product of integers to memory.
            for row, value in enumerate(np.einsum("ij,j->i", coefficients, limb).tolist()):
                self._totals[row] += value << low

    def done(self) -> Digest:
        """The combinations of all elements so far."""
        return tuple(self._totals)


def upload_digest(pieces: Iterable[RingVector], seed: bytes) -> Digest:
    """The digest of an upload, given in pieces of a multiple of CHUNK elements, the last one of any length."""
    rows = Rows(seed)
    for piece in pieces:
        for low in range(0, len(piece), CHUNK):
            rows.add(piece[low : low + CHUNK].astype(np.uint64), 8 * piece.itemsize)
    return rows.done()


def length_sketch(vector: RingVector, quantiser: Quantiser, seed: bytes) -> Projections:
    """The projections of an update, or of a sum of updates, in units of the update. The limbs of the statistics are
    left out.
    """
    values = signed_view(vector[: quantiser.dimension])
    streams = [MaskStream(digest("length", seed, bytes([block]))) for block in range(BLOCKS)]
    out = np.zeros((BLOCKS, BUCKETS), np.float64)
    steps = [(group.length, group.range / quantiser.levels) for group in quantiser.groups]
    words = np.empty(CHUNK, "<u2")
    start = 0
    for length, step in steps:
        for low in range(start, start + length, CHUNK):
            part = values[low : min(low + CHUNK, start + length)].astype(np.float64)
            for block, stream in enumerate(streams):
                word = words[: len(part)]
                stream.fill(word)
                signed = np.where(word & 0x8000, -part, part)
                out[block] += step * np.bincount(word % BUCKETS, weights=signed, minlength=BUCKETS)
        start += length
    return out.reshape(PROJECTIONS)


def sketched_length(projections: Projections) -> float:
    """The length estimated from the projections, in units of the update."""
    return float(np.sqrt(np.square(projections).sum() / BLOCKS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """One survivor's signed digest of its upload; `length` is empty where the charter does not ask for it."""

    sender: str
    rows: Digest
    length: tuple[float, ...]
    signature: bytes = b""

    def _body(self) -> bytes:
        rows = b"".join(value.to_bytes(DIGEST_BYTES, "big") for value in self.rows)
        return rows + struct.pack(f">H{len(self.length)}d", len(self.length), *self.length)

    @classmethod
    def signed(
        cls,
        signer: Signer,
        roster_hash: bytes,
        seed: bytes,
        sender: str,
        rows: Digest,
        length: Iterable[float],
    ) -> Self:
        """Signs what `sender` says under this challenge."""
        sketch = cls(sender=sender, rows=rows, length=tuple(length))
        signature = keys.sign(signer, "sketch", roster_hash, seed, sender.encode(), sketch._body())
        return cls(sender=sender, rows=sketch.rows, length=sketch.length, signature=signature)

    def verify(self, membership: Membership, roster_hash: bytes, seed: bytes) -> None:
        """Raises IdentityError if this member did not sign it under this challenge, MalformedError for wrong shapes."""
        if len(self.length) != (PROJECTIONS if membership.checks_lengths else 0):
            raise MalformedError(
                f"the sketch of {self.sender!r} has another shape than the charter's", culprit=self.sender
            )
        public = membership.member(self.sender).public_key
        fields = (roster_hash, seed, self.sender.encode(), self._body())
        if not keys.signed(public, self.signature, "sketch", *fields):
            raise IdentityError(
                f"the sketch of {self.sender!r} is not signed by its key", culprit=self.sender
            )

    def write(self, writer: Writer) -> None:
        writer.name(self.sender).raw(self._body()).raw(self.signature)

    @classmethod
    def read(cls, reader: MessageReader) -> Self:
        sender = reader.name()
        rows = tuple(reader.integer(DIGEST_BYTES) for _ in range(ROWS))
        count = reader.count(limit=PROJECTIONS)
        length = struct.unpack(f">{count}d", reader.raw(8 * count))
        if not all(np.isfinite(length)):
            raise MalformedError("a sketch is not finite", culprit=sender)
        return cls(sender=sender, rows=rows, length=length, signature=reader.raw(SIGNATURE_BYTES))
