"""Poisson sampling: each unit joins each step independently, with the probability that the accountant is told.

Shuffled batches of a fixed size are *not* this, and the accountant's bound would not hold for them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sordino_privacy.keystream import Keystream


def poisson_sample(keystream: Keystream, units: int, rate: float) -> npt.NDArray[np.intp]:
    """Indices of the units that take part in one step, ascending; often fewer or more than `rate * units`, or none."""
    if not 0 < rate <= 1:
        raise ValueError("a sampling rate is a probability above 0")
    # P(word < threshold) is `rate` rounded down to a multiple of 2^-53: never above what is accounted.
    threshold = int(rate * (1 << 53)) << 11
    words = keystream.words(units)
    chosen = np.ones(units, dtype=np.bool_) if threshold >= 1 << 64 else words < np.uint64(threshold)
    return np.flatnonzero(chosen)


def choose(keystream: Keystream, available: int, most: int) -> npt.NDArray[np.intp]:
    """A uniform choice of `min(available, most)` of `range(available)`, ascending: which windows of a unit are read."""
    if available <= most:
        return np.arange(available)
    return np.sort(np.argsort(keystream.words(available), kind="stable")[:most])
