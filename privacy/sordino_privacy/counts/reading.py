"""The memory that is made from an opened sum: the cells that are believed, and what they predict.

Coordinator and members make it from the same integers of the opened sum, so that every party gets the digest that was
signed. Cells below the threshold are left out: they cannot be told from noise, and are never served.

File: `sordino-shared-memory/1`, newline, u32 length and the plan's canonical bytes, u32 survivors, u32 number of cells,
then the cells (u32, increasing) and their counts (u32, in counts), all little-endian. With noise in shares it is
`sordino-shared-memory/2`, with one more u32 after the survivors: how many shares are enough (2 or more).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from sordino_privacy.counts.cells import contexts, keys, rows, table
from sordino_privacy.counts.plan import CountPlan
from sordino_privacy.errors import ConfigurationError, StorageError

MAGIC: Final = b"sordino-shared-memory/1\n"
SHARED_MAGIC: Final = b"sordino-shared-memory/2\n"
MAX_PLAN_BYTES: Final = 1 << 12
MAX_MEMORY_BYTES: Final = len(MAGIC) + 16 + MAX_PLAN_BYTES + 8 * (1 << 22)
_LARGEST = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """The tokens that the memory predicts after a context of `length - 1` tokens: `tokens`, ascending, and the count of
    each.
    """

    length: int
    tokens: npt.NDArray[np.int64]
    counts: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMemory:
    """Believed cells (ascending places in the vector) and their counts, of a sum over so many `survivors`, each with
    one of `shares` of the noise (1: all of it)."""

    plan: CountPlan
    survivors: int
    shares: int
    cells: npt.NDArray[np.uint32] = field(repr=False)
    counts: npt.NDArray[np.uint32] = field(repr=False)
    _dense: npt.NDArray[np.float32] = field(repr=False, compare=False)

    @classmethod
    def _of(
        cls, plan: CountPlan, survivors: int, shares: int, cells: npt.NDArray[Any], counts: npt.NDArray[Any]
    ) -> Self:
        dense = np.zeros(plan.cells, np.float32)
        dense[cells] = counts
        return cls(
            plan=plan,
            survivors=survivors,
            shares=shares,
            cells=cells.astype(np.uint32),
            counts=counts.astype(np.uint32),
            _dense=dense,
        )

    @classmethod
    def of_sum(
        cls, integers: npt.NDArray[Any], plan: CountPlan, *, survivors: int, step: float, shares: int = 1
    ) -> Self:
        """From an opened sum: signed integers of `step` counts each, shape `(plan.cells,)`. Every member gets the same
        memory, because each operation on an element is correctly rounded.
        """
        values = integers[: plan.cells].astype(np.float64) * step
        cells = np.flatnonzero(values >= plan.threshold(survivors=survivors, shares=shares))
        return cls._of(plan, survivors, shares, cells, np.minimum(np.rint(values[cells]), _LARGEST))

    @property
    def threshold(self) -> float:
        """The smallest count that is believed."""
        return self.plan.threshold(survivors=self.survivors, shares=self.shares)

    @property
    def phrases(self) -> int:
        """About how many phrases it holds: the believed cells of the row that has fewer. Two phrases in one cell count
        once.
        """
        half = self.plan.cells // 2
        first = int(np.count_nonzero(self.cells < half))
        return min(first, len(self.cells) - first)

    def encode(self) -> bytes:
        """The file's bytes. Each memory has exactly one encoding."""
        plan, numbers = self.plan.canonical(), [self.survivors, len(self.cells)]
        if self.shares > 1:
            numbers.insert(1, self.shares)
        head = struct.pack(f"<I{len(plan)}s{len(numbers)}I", len(plan), plan, *numbers)
        magic = SHARED_MAGIC if self.shares > 1 else MAGIC
        return magic + head + self.cells.astype("<u4").tobytes() + self.counts.astype("<u4").tobytes()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The memory in a file. Raises StorageError for anything that `encode` would not have written."""
        damaged = StorageError("the shared memory is damaged", hint="fetch the release again")
        if len(data) > MAX_MEMORY_BYTES or not data.startswith((MAGIC, SHARED_MAGIC)):
            raise damaged
        form = "<III" if data.startswith(SHARED_MAGIC) else "<II"
        at = len(MAGIC) + 4
        if len(data) < at:
            raise damaged
        (size,) = struct.unpack_from("<I", data, at - 4)
        start = at + size + struct.calcsize(form)
        if size > MAX_PLAN_BYTES or len(data) < start:
            raise damaged
        try:
            plan = CountPlan.parse(json.loads(data[at : at + size]))
        except (ConfigurationError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise damaged from error
        survivors, *shared, count = struct.unpack_from(form, data, at + size)
        shares = shared[0] if shared else 1
        if count > plan.cells or len(data) != start + 8 * count or survivors < 1 or shares < 1:
            raise damaged
        cells, counts = np.frombuffer(data, "<u4", offset=start).reshape(2, count)
        if count and (not (np.diff(cells.astype(np.int64)) > 0).all() or cells[-1] >= plan.cells):
            raise damaged
        memory = cls._of(plan, survivors, shares, cells.astype(np.int64), counts)
        if memory.encode() != data:
            raise damaged
        return memory

    def digest(self) -> bytes:
        """32 bytes: what a release signs."""
        return hashlib.sha256(self.encode()).digest()

    def follows(self, context: Sequence[int], *, vocabulary: int) -> list[Foretold]:
        """What the memory predicts next, from the shortest phrases to the longest.

        The end of `context` is looked up with every token of the vocabulary. A phrase is believed if both of its cells
        are. Its count is the smaller of the two, because other phrases in a cell can only add to it.
        """
        last = np.asarray(context[-(self.plan.longest - 1) :], np.int64).astype(np.uint32)
        usable = max(0, min(len(last) - self.plan.shortest + 2, self.plan.longest - self.plan.shortest + 1))
        if not usable or not len(self.cells):
            return []
        ends = contexts(last, self.plan, vocabulary=vocabulary)[:usable, -1]
        asked = keys(ends[:, None], table(vocabulary)[None, :])
        first, second = rows(asked, self.plan)
        counts = self._dense[first]
        row, token = np.nonzero(counts)
        counts = np.minimum(counts[row, token], self._dense[second[row, token]])
        found = []
        for place in range(usable):
            here = (row == place) & (counts > 0)
            if here.any():
                found.append(
                    Foretold(length=self.plan.shortest + place, tokens=token[here], counts=counts[here])
                )
        return found
