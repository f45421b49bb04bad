"""The memory without a model, to measure what each of the two is worth.

Where nothing is recalled the text ends: a memory alone has nothing to say there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sordino_client.completion.query import Probabilities, Recall
from sordino_platform.tokenizer import END


class MemoryAlone:
    """`query.Recall` that puts the memory's prediction in the place of the model's."""

    def __init__(self, memory: Recall) -> None:
        self._memory = memory

    def mix(self, probabilities: Probabilities, written: Sequence[int]) -> Probabilities:
        """See `query.Recall.mix`."""
        nothing = np.full(len(probabilities), 1 / len(probabilities))
        mixed = self._memory.mix(nothing, written)
        if mixed is nothing:
            mixed = np.zeros(len(probabilities))
            mixed[END] = 1
        return mixed

    def draft(self, written: Sequence[int], count: int) -> list[int]:
        """See `query.Recall.draft`."""
        return self._memory.draft(written, count)
