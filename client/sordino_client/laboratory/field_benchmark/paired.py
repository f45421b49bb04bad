"""Compares two contenders on the same tokens: the difference and its confidence interval.

Parties differ more than files, and the files of one party are similar. So this is a cluster bootstrap: parties are
drawn with replacement, then files within each drawn party, and both contenders are evaluated on the drawn files
(Davison and Hinkley 1997, section 3.8). The mean is over parties. Each party has the same weight, however many tokens
were measured.

    >>> files = Files(bits=(8.0, 4.0), sizes=(8.0, 4.0), correct=(1.0, 1.0), tokens=(2.0, 2.0))
    >>> saved([(files, files)]).mean
    0.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sordino_platform.evaluation import Columns

RESAMPLES, LEVEL, SEED = 2000, 0.95, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """One contender's results on one party's held-out files, one entry for each file.

    `bits` over `sizes` are bits per byte, `correct` over `tokens` is the next-token accuracy.
    """

    bits: tuple[float, ...]
    sizes: tuple[float, ...]
    correct: tuple[float, ...]
    tokens: tuple[float, ...]

    @classmethod
    def of(cls, columns: Columns) -> Self:
        """From a measurement."""
        return cls(
            bits=tuple(columns.bits),
            sizes=tuple(columns.sizes),
            correct=tuple(columns.correct),
            tokens=tuple(columns.tokens),
        )

    @classmethod
    def parse(cls, raw: Mapping[str, Sequence[float]]) -> Self:
        """From a stage's JSON."""
        return cls(**{name: tuple(raw[name]) for name in ("bits", "sizes", "correct", "tokens")})

    @property
    def bits_per_byte(self) -> float:
        """Over all files."""
        return sum(self.bits) / sum(self.sizes)

    @property
    def accuracy(self) -> float:
        """The next-token accuracy."""
        return sum(self.correct) / sum(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The mean over parties, its 95 % interval, and the value of each party."""

    mean: float
    interval: tuple[float, float]
    each: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {"mean": self.mean, "ci": list(self.interval), "each": list(self.each)}


Pair = tuple[Files, Files]


def saved(pairs: Sequence[Pair]) -> Difference:
    """Bits per byte that the second saves over the first: above 0 if the second is better."""
    return _difference([(_array(a.bits), _array(b.bits), _array(a.sizes)) for a, b in pairs])


def foretold(pairs: Sequence[Pair]) -> Difference:
    """The second's next-token accuracy minus the first's."""
    return _difference([(_array(b.correct), _array(a.correct), _array(a.tokens)) for a, b in pairs])


def _difference(parties: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Difference:
    """Of `(sum(first) - sum(second)) / sum(weights)`; each party is three arrays with one entry per file."""
    if not parties:
        raise ValueError("nobody was measured")
    each = tuple(float((a - b).sum() / weight.sum()) for a, b, weight in parties)
    draw = np.random.default_rng(SEED)
    means = np.zeros(RESAMPLES)
    chosen = draw.integers(0, len(parties), (RESAMPLES, len(parties)))
    for place, (a, b, weight) in enumerate(parties):
        files = draw.integers(0, len(a), (RESAMPLES, len(parties), len(a)))
        ratios = (a - b)[files].sum(axis=2) / weight[files].sum(axis=2)
        # For each draw of this party, new draws of its files.
        means += np.where(chosen == place, ratios, 0.0).sum(axis=1)
    means /= len(parties)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(mean=float(np.mean(each)), interval=(float(low), float(high)), each=each)


def _array(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
