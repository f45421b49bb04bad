"""Y: the sum of masked uploads as integers, exactly, in little more memory than one upload.

An element is kept as its value in the ring, and how often it wrapped around the ring (a byte for up to 256 members).
All passes go chunk by chunk, so that a chunk stays in the core's cache until all work on it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from sordino_privacy.secagg.encoding import digest
from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.secagg.sketch import CHUNK, Digest, Rows

PASS = 1 << 16
"""Elements of a pass over several vectors; a multiple of CHUNK."""
T = TypeVar("T")
Carries = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """`ring` and `carries` of one length: an element is ring + 2^(bits of the ring) carries."""

    ring: RingVector
    carries: Carries

    @classmethod
    def nothing(cls, elements: int, dtype: np.dtype[Any], carries: np.dtype[Any]) -> Self:
        """The sum of no upload; `carries` is a type that can count as many wraps as there may be uploads."""
        return cls(ring=np.zeros(elements, dtype), carries=np.zeros(elements, carries))

    @property
    def ring_bits(self) -> int:
        return 8 * self.ring.itemsize

    def add(self, upload: RingVector, *, threads: int = 1) -> None:
        """Adds one more upload of the ring's type and this length."""

        def of(start: int, end: int) -> None:
            for part in self._passes(start, end):
                ring, more, carries = self.ring[part], upload[part], self.carries[part]
                np.add(ring, more, out=ring)
                np.add(carries, np.less(ring, more).view(np.uint8), out=carries)

        self._shared(of, threads)

    def subtract(self, upload: RingVector) -> None:
        """Takes an upload off that was added before."""
        for part in self._passes(0, len(self.ring)):
            ring, less, carries = self.ring[part], upload[part], self.carries[part]
            np.subtract(carries, np.less(ring, less).view(np.uint8), out=carries)
            np.subtract(ring, less, out=ring)

    def digest(self) -> bytes:
        """H(Y), which the coordinator commits to before anybody's nonce: each element in twice the ring's bits."""
        wide_type, shift = np.dtype(f"<u{2 * self.ring.itemsize}"), self.ring_bits
        hashed, whole = sha256(), np.empty(PASS, wide_type)
        for part in self._passes(0, len(self.ring)):
            ring = self.ring[part]
            wide = whole[: len(ring)]
            np.copyto(wide, self.carries[part])
            np.left_shift(wide, wide_type.type(shift), out=wide)
            np.bitwise_or(wide, ring, out=wide)
            hashed.update(wide.data)
        return digest("total", hashed.digest())

    def rows(self, seed: bytes, *, threads: int = 1) -> Digest:
        """The digest of Y under a challenge: the sum of the digests of the uploads."""

        def of(start: int, end: int) -> Digest:
            rows, high, low = Rows(seed, start=start), np.empty(CHUNK, np.uint64), np.empty(CHUNK, np.uint64)
            for at in range(start, end, CHUNK):
                part = slice(at, min(at + CHUNK, end))
                carries, ring = high[: part.stop - at], low[: part.stop - at]
                np.copyto(carries, self.carries[part])
                np.copyto(ring, self.ring[part])
                bits = self.ring_bits + int(carries.max()).bit_length()
                np.left_shift(carries, np.uint64(self.ring_bits), out=carries)
                np.bitwise_or(carries, ring, out=carries)
                rows.add(carries, bits)
            return rows.done()

        return tuple(map(sum, zip(*self._shared(of, threads), strict=True)))

    def _passes(self, start: int, end: int) -> Iterator[slice]:
        return (slice(low, min(low + PASS, end)) for low in range(start, end, PASS))

    def _shared(self, work: Callable[[int, int], T], threads: int) -> list[T]:
        """Runs `work(start, end)` on ranges that cover all elements, shared among threads; `end` is exclusive."""
        length = len(self.ring)
        share = max(-(-length // (threads * PASS)), 1) * PASS
        starts = range(0, length, share)
        ends = [min(start + share, length) for start in starts]
        if len(starts) == 1:
            return [work(0, length)]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, starts, ends))
