"""Y: the sum of masked uploads as integers, exactly, in little more memory than one upload.

An element is kept as what it is in the ring, and how often it went round it (a byte for up to 256 members). All passes
go chunk by chunk, so that a chunk stays in the core's cache while everything is done to it that is to be done.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sordino_privacy.secagg.encoding import digest
from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.secagg.sketch import CHUNK, Digest, Rows

PASS = 1 << 16
"""Elements of a pass over several vectors."""
Carries = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """`ring` and `carries` of one length: an element is ring + 2^(bits of the ring) carries."""

    ring: RingVector
    carries: Carries

    @classmethod
    def nothing(cls, elements: int, dtype: np.dtype[Any], carries: np.dtype[Any]) -> Self:
        """The sum of no upload; `carries` holds as many rounds as there may be uploads."""
        return cls(ring=np.zeros(elements, dtype), carries=np.zeros(elements, carries))

    @property
    def ring_bits(self) -> int:
        return 8 * self.ring.itemsize

    def add(self, upload: RingVector) -> None:
        """One more upload of the ring's type and this length."""
        for part in self._passes():
            ring, more, carries = self.ring[part], upload[part], self.carries[part]
            np.add(ring, more, out=ring)
            np.add(carries, np.less(ring, more).view(np.uint8), out=carries)

    def subtract(self, upload: RingVector) -> None:
        """Without an upload that was added."""
        for part in self._passes():
            ring, less, carries = self.ring[part], upload[part], self.carries[part]
            np.subtract(carries, np.less(ring, less).view(np.uint8), out=carries)
            np.subtract(ring, less, out=ring)

    def digest(self) -> bytes:
        """H(Y), which the coordinator commits to before anybody's nonce: each element in twice the ring's bits."""
        hashed, halves = sha256(), np.empty((PASS, 2), self.ring.dtype)
        for part in self._passes():
            ring = self.ring[part]
            wide = halves[: len(ring)]
            wide[:, 0], wide[:, 1] = ring, self.carries[part]
            hashed.update(wide.data)
        return digest("total", hashed.digest())

    def rows(self, seed: bytes, *, threads: int = 1) -> Digest:
        """The digest of Y under a challenge: what those of the uploads add up to."""
        share = max(-(-len(self.ring) // (threads * CHUNK)), 1) * CHUNK

        def of(start: int) -> Digest:
            rows = Rows(seed, start=start)
            for low in range(start, min(start + share, len(self.ring)), CHUNK):
                carries = self.carries[low : low + CHUNK].astype(np.uint64)
                bits = self.ring_bits + int(carries.max()).bit_length()
                np.left_shift(carries, np.uint64(self.ring_bits), out=carries)
                np.add(carries, self.ring[low : low + CHUNK], out=carries)
                rows.add(carries, bits)
            return rows.done()

        starts = range(0, len(self.ring), share)
        if len(starts) == 1:
            return of(0)
        with ThreadPoolExecutor(threads) as pool:
            return tuple(map(sum, zip(*pool.map(of, starts), strict=True)))

    def _passes(self) -> Iterator[slice]:
        return (slice(low, low + PASS) for low in range(0, len(self.ring), PASS))
