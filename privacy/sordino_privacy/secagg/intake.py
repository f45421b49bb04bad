"""Uploads on arrival: one accumulator for the sum, and a few staging buffers, for any number of members.

An upload is added to the accumulator only when it is complete and its signature is valid: a member that dies in the
middle of its upload must not change the sum. Until then the masked upload is in a staging buffer. The accumulator also
counts how often each element wrapped around the ring, so that the exact sum is known. Every added upload is also given
to a `Keeper`: the upload is used in place of a survivor's sketch if the survivor does not answer, and it shows who sent
a false sketch.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.quantise import Quantiser
from sordino_privacy.secagg.refusals import (
    BusyError,
    IdentityError,
    MalformedError,
    OrderError,
    ReplayError,
    SurvivorError,
    UploadSignatureError,
)
from sordino_privacy.secagg.total import Total
from sordino_privacy.secagg.upload import (
    SLICE_BYTES,
    UploadHeader,
    UploadReceipt,
    slice_digest,
    vector_digest,
)

Data = bytes | bytearray | memoryview


class Keeper(Protocol):
    """Keeps the masked uploads of one attempt until its sum is shown."""

    def put(self, sender: str, upload: memoryview) -> bool:
        """Keeps the upload. Returns True if it keeps this memory itself, which then must not be written any more.
        Raises StorageError.
        """

    def get(self, sender: str) -> bytes | memoryview:
        """The bytes that were put."""


class MemoryKeeper:
    """A keeper for few members or small models: it holds one masked vector per member in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, memoryview] = {}

    def put(self, sender: str, upload: memoryview) -> bool:
        self._kept[sender] = upload
        return True

    def get(self, sender: str) -> memoryview:
        return self._kept[sender]


class Intake:
    """The accumulator of one attempt and the receipts of what was added to it."""

    def __init__(self, quantiser: Quantiser, staging: int, keeper: Keeper) -> None:
        if staging < 1:
            raise ValueError("at least one staging buffer is needed")
        self.total = Total.nothing(quantiser.length, quantiser.dtype, quantiser.carries)
        self.keeper = keeper
        self.receipts: dict[str, UploadReceipt] = {}
        self._elements, self._dtype = quantiser.length, quantiser.dtype
        self._unused, self._free = staging, list[RingVector]()
        self.open = True

    def take(self) -> RingVector:
        if self._free:
            return self._free.pop()
        if not self._unused:
            raise BusyError("as many uploads as there are staging buffers are in progress")
        self._unused -= 1
        return np.empty(self._elements, self._dtype)

    def give_back(self, buffer: RingVector) -> None:
        self._free.append(buffer)

    def give_away(self) -> None:
        """The keeper has taken over a staging buffer, so another one may be allocated."""
        self._unused += 1

    def close(self) -> None:
        """From now on no upload can complete; the staging buffers are released."""
        self.open = False
        self._free.clear()


class UploadReceiver:
    """One upload in progress: `feed` its bytes, in order and in pieces of any size, then `finish`.

    The length of an upload and every byte of its header follow from the attempt, so no allocation depends on what the
    sender claims. Any refusal discards the upload and leaves the sum as it was.
    """

    def __init__(
        self, intake: Intake, membership: Membership, expected: UploadHeader, *, threads: int = 1
    ) -> None:
        self._intake, self._membership, self._expected = intake, membership, expected
        self._threads = threads
        self._header_bytes = expected.encode()
        self._body_bytes = expected.elements * expected.ring_bits // 8
        self.size = expected.upload_bytes
        self._header, self._trailer = bytearray(), bytearray()
        self._received = 0
        self._buffer: RingVector | None = intake.take()
        self._body = self._buffer.view(np.uint8).data
        self._filled, self._hashes = 0, list[Future[bytes]]()
        several = threads > 1 and self._body_bytes > SLICE_BYTES
        self._pool = ThreadPoolExecutor(threads) if several else None

    def feed(self, data: Data) -> None:
        """Raises ReplayError, SurvivorError, IdentityError (header), MalformedError (too long), OrderError (late)."""
        self._require_open()
        try:
            self._feed(memoryview(data).cast("B"))
        except Exception:
            self.discard()
            raise

    def _feed(self, data: memoryview) -> None:
        if self._received + len(data) > self.size:
            raise MalformedError("the upload is longer than the round's", culprit=self._expected.sender)
        self._received += len(data)
        missing = len(self._header_bytes) - len(self._header)
        if missing:
            self._header += data[:missing]
            data = data[missing:]
            if len(self._header) < len(self._header_bytes):
                return
            if self._header != self._header_bytes:
                self._explain(bytes(self._header))
        while data and self._filled < self._body_bytes:
            low = self._filled
            end = min(low - low % SLICE_BYTES + SLICE_BYTES, self._body_bytes)
            taken = min(end - low, len(data))
            self._body[low : low + taken] = data[:taken]
            self._filled, data = low + taken, data[taken:]
            if self._filled == end:
                self._hash(self._body[low - low % SLICE_BYTES : end])
        self._trailer += data

    def _hash(self, piece: memoryview) -> None:
        """A slice is complete. It is hashed while the next one arrives, or now, while it is in the core's cache."""
        if self._pool is not None:
            self._hashes.append(self._pool.submit(slice_digest, piece))
            return
        done = Future[bytes]()
        done.set_result(slice_digest(piece))
        self._hashes.append(done)

    def _explain(self, message: bytes) -> None:
        header, expected = UploadHeader.decode(message), self._expected
        who = expected.sender
        if header.sender != who:
            raise IdentityError(f"{who!r} sent an upload in the name of {header.sender!r}", culprit=who)
        if header.roster_hash != expected.roster_hash:
            raise ReplayError(f"the upload of {who!r} belongs to another attempt or roster", culprit=who)
        if header.u2_hash != expected.u2_hash:
            raise SurvivorError(f"the upload of {who!r} is masked over another U2", culprit=who)
        raise MalformedError(
            f"the upload of {who!r} has another length or ring than the round's", culprit=who
        )

    def finish(self) -> None:
        """Verifies the signature and adds the upload to the sum.

        Raises MalformedError (too short), UploadSignatureError, OrderError.
        """
        self._require_open()
        buffer = self._buffer
        try:
            if self._received != self.size or buffer is None:
                raise MalformedError("the upload ended early", culprit=self._expected.sender)
            receipt = UploadReceipt.decode(bytes(self._trailer))
            who = self._expected.sender
            if (receipt.sender, receipt.u2_hash) != (who, self._expected.u2_hash):
                raise UploadSignatureError(f"the trailer of {who!r} contradicts its header", culprit=who)
            if receipt.vector_hash != vector_digest(each.result() for each in self._hashes):
                raise UploadSignatureError(
                    f"the upload of {who!r} does not have the hash that it states", culprit=who
                )
            receipt.verify(self._membership, self._expected.roster_hash)
            if who in self._intake.receipts:
                raise OrderError(f"{who!r} has already uploaded")
            kept = self._intake.keeper.put(who, buffer.view(np.uint8).data)
            self._intake.total.add(buffer, threads=self._threads)
            self._intake.receipts[who] = receipt
            if kept:
                self._buffer = None
                self._intake.give_away()
        finally:
            self.discard()

    def discard(self) -> None:
        """Drops the upload and frees its staging buffer. Allowed at any time."""
        if self._pool is not None:
            self._pool.shutdown(
                cancel_futures=True
            )  # nothing reads the buffer any more when it is given back
            self._pool = None
        if self._buffer is not None:
            self._intake.give_back(self._buffer)
            self._buffer = None

    def receive(self, frames: Iterable[Data]) -> None:
        """`feed` every frame, then `finish`; discards the upload when the frames end with an exception."""
        try:
            for frame in frames:
                self.feed(frame)
            self.finish()
        finally:
            self.discard()

    def _require_open(self) -> None:
        if self._buffer is None or not self._intake.open:
            self.discard()
            raise OrderError(f"the upload of {self._expected.sender!r} came too late, or was discarded")
