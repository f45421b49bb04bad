"""Measures how much of a document is already in another corpus: shared runs of 13 words, the usual decontamination
unit.

Words are identifiers and numbers; import lines do not count, since every project shares them. One run in four is
sampled (by its hash, so the same runs everywhere) and marked in a bitmap, so a document is checked with a few array
reads. False positives raise a document's overlap by the filled share of the bitmap. That is at most a few percent here,
far below every threshold in use. There are no false negatives.
"""

from __future__ import annotations

import re
from itertools import chain
from zlib import crc32

import numpy as np
import numpy.typing as npt

RUN = 13
SAMPLE = 4
_SLOT_BITS = 28
_WORD = re.compile(rb"\w+")
_IMPORTS = re.compile(rb"^(?:import|package|from)\b[^\n]*$", re.MULTILINE)
# Odd constants of splitmix64. Each position has its own multiplier, so the hash depends on the order of the words.
_POSITION = (np.uint64(0x9E3779B97F4A7C15) * np.arange(1, 2 * RUN, 2, dtype=np.uint64)).astype(np.uint64)

Slots = npt.NDArray[np.int64]


def runs(text: str) -> Slots:
    """The bitmap slots of the sampled 13-word runs of `text`; a shorter text is one run."""
    words = _WORD.findall(_IMPORTS.sub(b"", text.encode()))
    codes = np.fromiter(map(crc32, chain(words, [b""] * max(0, RUN - len(words)))), dtype=np.uint64)
    count = len(codes) - RUN + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for offset in range(RUN):
        mixed += codes[offset : offset + count] * _POSITION[offset]
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    kept = mixed[mixed % np.uint64(SAMPLE) == 0]
    return ((kept if len(kept) else mixed[:1]) >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)


class SeenRuns:
    """The runs of all documents that were added."""

    def __init__(self) -> None:
        self._slots = np.zeros(1 << _SLOT_BITS, dtype=np.bool_)

    def add(self, slots: Slots) -> None:
        self._slots[slots] = True

    def overlap(self, slots: Slots) -> float:
        """The share, 0 to 1, of a document's runs that were added before."""
        return float(self._slots[slots].mean())
