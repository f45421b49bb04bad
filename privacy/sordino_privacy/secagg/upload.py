"""Phase 3, sent by a member: the masked update as a stream, header first, signature last.

    header   R, sender, H(U2), number of elements, bits of the ring
    slices   SLICE_BYTES of masked elements each, the last one shorter
    trailer  H(y), Sig("upload", R, sender, H(U2), H(y))

H(y) is the hash of the list of the slices' hashes, so that slices can be hashed on arrival and by several threads. The
signature travels last because a member masks while it sends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

import numpy as np

from sordino_privacy.secagg import keys
from sordino_privacy.secagg.encoding import HASH_BYTES, MAGIC, SIGNATURE_BYTES, MessageReader, Writer, digest
from sordino_privacy.secagg.masks import Mask, RingVector, Streams
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.refusals import UploadSignatureError
from sordino_privacy.signing import Signer

HEADER_KIND = 6
TRAILER_KIND = 7
SLICE_BYTES = 1 << 20
RECEIPT_LAYOUT = struct.Struct(f"{HASH_BYTES}s{HASH_BYTES}s{SIGNATURE_BYTES}s")  # after the sender's name


def u2_digest(names: Iterable[str]) -> bytes:
    """H(U2), over the sorted names of the members of U2."""
    return digest("U2", *(name.encode() for name in names))


def slice_digest(piece: bytes | memoryview) -> bytes:
    """The hash of one slice."""
    return sha256(piece).digest()


def vector_digest(slices: Iterable[bytes]) -> bytes:
    """H(y) from the hashes of its slices, in order."""
    return digest("y", *slices)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadHeader:
    roster_hash: bytes
    sender: str
    u2_hash: bytes
    elements: int
    ring_bits: int

    @property
    def upload_bytes(self) -> int:
        """Bytes of the whole upload: header, vector and trailer."""
        trailer = len(MAGIC) + 1 + 1 + len(self.sender) + 2 * HASH_BYTES + SIGNATURE_BYTES
        return len(self.encode()) + self.elements * self.ring_bits // 8 + trailer

    def encode(self) -> bytes:
        writer = Writer(HEADER_KIND).raw(self.roster_hash).name(self.sender).raw(self.u2_hash)
        return writer.u32(self.elements).u8(self.ring_bits).done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, HEADER_KIND)
        header = cls(
            roster_hash=reader.raw(HASH_BYTES),
            sender=reader.name(),
            u2_hash=reader.raw(HASH_BYTES),
            elements=reader.u32(),
            ring_bits=reader.u8(),
        )
        reader.end()
        return header


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadReceipt:
    """What a member signed about its upload: the claim "I uploaded y, masked over U2"."""

    sender: str
    u2_hash: bytes
    vector_hash: bytes
    signature: bytes

    @classmethod
    def signed(
        cls, signer: Signer, roster_hash: bytes, sender: str, u2_hash: bytes, vector_hash: bytes
    ) -> Self:
        signature = keys.sign(signer, "upload", roster_hash, sender.encode(), u2_hash, vector_hash)
        return cls(sender=sender, u2_hash=u2_hash, vector_hash=vector_hash, signature=signature)

    def verify(self, membership: Membership, roster_hash: bytes) -> None:
        """Raises UploadSignatureError, IdentityError."""
        public = membership.member(self.sender).public_key
        fields = (roster_hash, self.sender.encode(), self.u2_hash, self.vector_hash)
        if not keys.signed(public, self.signature, "upload", *fields):
            raise UploadSignatureError(
                f"the upload of {self.sender!r} is not signed by its key", culprit=self.sender
            )

    def write(self, writer: Writer) -> None:
        writer.name(self.sender).raw(self.u2_hash).raw(self.vector_hash).raw(self.signature)

    @classmethod
    def read(cls, reader: MessageReader) -> Self:
        sender, (u2_hash, vector_hash, signature) = reader.named(RECEIPT_LAYOUT)
        return cls(sender=sender, u2_hash=u2_hash, vector_hash=vector_hash, signature=signature)

    def encode(self) -> bytes:
        """The trailer of the upload."""
        writer = Writer(TRAILER_KIND)
        self.write(writer)
        return writer.done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, TRAILER_KIND)
        receipt = cls.read(reader)
        reader.end()
        return receipt


def masked_slices(
    vector: RingVector, masks: Sequence[Mask], *, threads: int = 1
) -> Iterator[tuple[memoryview, bytes]]:
    """The masked vector as (slice, its hash), in order. `vector` is not changed; each slice is fresh memory. With
    `threads` > 1 that many slices are in progress at a time; each thread keeps its own encryptors and seeks in the
    keystreams.
    """
    size = SLICE_BYTES // vector.itemsize
    starts = range(0, len(vector), size)

    def masked(streams: Streams, start: int) -> tuple[memoryview, bytes]:
        piece = vector[start : start + size].copy()
        streams.seek(start * vector.itemsize)
        streams.add_to(piece)
        view = piece.view(np.uint8).data
        return view, slice_digest(view)

    if threads == 1:
        streams = Streams(masks)
        for start in starts:
            yield masked(streams, start)
        return
    workers = [Streams(masks) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(starts), threads):
            batch = zip(workers, starts[first : first + threads], strict=False)
            yield from [done.result() for done in [pool.submit(masked, *work) for work in batch]]
