"""Means with confidence intervals, resampled by file, because tokens of one file are not independent observations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], *, resamples: int = 1000, level: float = 0.95
) -> tuple[float, Interval]:
    """`sum(numerators) / sum(denominators)` and its percentile bootstrap interval (Efron 1979) over the entries.

    One entry is one file. The draws are seeded: the same input gives the same interval. NaN without a denominator.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if not bottom.sum():
        return float("nan"), (float("nan"), float("nan"))
    drawn = np.random.default_rng(0).integers(0, len(top), (resamples, len(top)))
    bottoms = bottom[drawn].sum(axis=1)
    ratios = top[drawn].sum(axis=1)[bottoms > 0] / bottoms[bottoms > 0]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(top.sum() / bottom.sum()), (float(low), float(high))


def edit_similarity(left: str, right: str) -> float:
    """1 minus the Levenshtein distance divided by the longer length: 1 for equal strings, 0 for nothing in common."""
    if not left or not right:
        return float(left == right)
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return 1 - row[-1] / max(len(left), len(right))
