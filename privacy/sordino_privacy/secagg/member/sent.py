"""Phase 5 at a member, what it says of its upload: the digest of the copy that it kept, if that is what it signed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.secagg.sketch import Digest, upload_digest
from sordino_privacy.secagg.upload import (
    SLICE_BYTES,
    UploadHeader,
    UploadReceipt,
    slice_digest,
    vector_digest,
)

Sent = bytes | memoryview


def digest_of_sent(sent: Sent, header: UploadHeader, receipt: UploadReceipt, seed: bytes) -> Digest | None:
    """The digest under the challenge `seed` of the upload that lies in `sent`, all its frames one after the other.

    None unless that is the upload of `header` whose vector `receipt` signs: a copy may be torn, of another attempt, or
    not there. Its bytes are looked at once, for the hash and for the digest.
    """
    head, hashes = header.encode(), list[bytes]()
    if len(sent) != header.upload_bytes or sent[: len(head)] != head:
        return None
    vector = memoryview(sent)[len(head) : len(head) + header.elements * header.ring_bits // 8]

    def pieces() -> Iterator[RingVector]:
        for at in range(0, len(vector), SLICE_BYTES):
            piece = bytes(vector[at : at + SLICE_BYTES])  # a mapped file may change between two looks
            hashes.append(slice_digest(piece))
            yield np.frombuffer(piece, f"<u{header.ring_bits // 8}")

    said = upload_digest(pieces(), seed)
    return said if vector_digest(hashes) == receipt.vector_hash else None
