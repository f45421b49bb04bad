"""One update as ring integers, stored on the member's disk until it is masked, and the statistics that come with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sordino_privacy.secagg.encoding import HASH_BYTES, MAGIC, MessageReader, Writer
from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.secagg.refusals import MalformedError

QUANTISED_KIND = 32
HEAD_BYTES = len(MAGIC) + 1 + 2 * HASH_BYTES + 1 + 4  # of a stored update, before its vector


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedStatistics:
    """The statistics that are masked and summed together with the update. `loss` is the member's mean loss in nats, in
    [0, 256), privatised by the caller; `examples` is the *declared public size bucket*, at most 2^40.
    """

    loss: float = 0.0
    examples: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """One update as ring integers, extra limbs included. Not masked: it stays on the member's machine. `identity` (32
    bytes) identifies this one draw of the rounding; a retry must have the same identity.
    """

    quantiser_hash: bytes
    identity: bytes
    vector: RingVector

    def __repr__(self) -> str:
        return f"Quantised(length={len(self.vector)}, <update withheld>)"

    def encode(self) -> bytes:
        """For the member's own disk: an interrupted round is retried with these same bytes."""
        bits = self.vector.dtype.itemsize * 8
        head = (
            Writer(QUANTISED_KIND).raw(self.quantiser_hash).raw(self.identity).u8(bits).u32(len(self.vector))
        )
        return head.done() + self.vector.tobytes()

    @classmethod
    def decode(cls, message: bytes | memoryview) -> Quantised:
        """The vector views the message, which may be a mapped file. Raises MalformedError."""
        view = memoryview(message)
        reader = MessageReader(bytes(view[:HEAD_BYTES]), QUANTISED_KIND)
        quantiser_hash, identity, bits = reader.raw(HASH_BYTES), reader.raw(HASH_BYTES), reader.u8()
        if bits not in (16, 32):
            raise MalformedError("a ring has 16 or 32 bits")
        elements = reader.u32()
        reader.end()
        if len(view) != HEAD_BYTES + elements * bits // 8:
            raise MalformedError("the vector has another length than it says")
        vector = np.frombuffer(view[HEAD_BYTES:], f"<u{bits // 8}")
        return cls(quantiser_hash=quantiser_hash, identity=identity, vector=vector)
