"""Samples and noise have their distributions.

Keys are fixed, so each check has one outcome; the thresholds are far in the tail.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from tests.dpsgd.small_models import key

from sordino_privacy.dpsgd.noise import standard_normal
from sordino_privacy.dpsgd.sampling import choose, poisson_sample
from sordino_privacy.keystream import Keystream


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.999])
def test_poisson_samples_have_the_right_rate_size_and_independence(rate: float) -> None:
    stream, units, draws = key(1), 400, 500
    chosen = np.zeros((draws, units), dtype=bool)
    for row in chosen:
        row[poisson_sample(stream, units, rate)] = True
    sizes = chosen.sum(axis=1)
    assert abs(chosen.mean() - rate) < 4.5 * math.sqrt(rate * (1 - rate) / chosen.size)
    # Fixed-size batches would have no variance here.
    assert sizes.var() == pytest.approx(units * rate * (1 - rate), rel=0.35)
    per_unit = chosen.sum(axis=0)
    assert stats.chisquare(per_unit, np.full(units, per_unit.mean())).pvalue > 1e-4 or rate > 0.9
    neighbours = np.corrcoef(chosen[:, :-1].ravel(), chosen[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(chosen.size)


def test_a_rate_of_one_takes_everything() -> None:
    assert poisson_sample(key(), 100, 1.0).size == 100


def test_windows_of_a_unit_are_chosen_uniformly_without_repetition() -> None:
    stream, counts = key(2), np.zeros(10)
    for _ in range(3000):
        chosen = choose(stream, 10, 3)
        assert len(set(chosen.tolist())) == 3
        counts[chosen] += 1
    assert stats.chisquare(counts).pvalue > 1e-4
    assert choose(stream, 3, 8).tolist() == [0, 1, 2]


def test_noise_is_standard_normal_to_the_tails() -> None:
    sample = standard_normal(key(4), 400_001).numpy()
    assert sample.dtype == np.float64
    assert sample.size == 400_001
    assert stats.kstest(sample, "norm").pvalue > 1e-4
    assert sample.std() == pytest.approx(1.0, abs=0.006)
    assert 4 < np.abs(sample).max() < 8.6
    assert abs(np.corrcoef(sample[:200_000], sample[200_001:])[0, 1]) < 0.012


def test_two_streams_differ_and_a_stream_never_repeats() -> None:
    a, b = Keystream.from_system(), Keystream.from_system()
    assert not np.array_equal(a.words(8), b.words(8))
    assert not np.array_equal(a.words(8), a.words(8))
    assert np.array_equal(key().words(300_000)[-4:], np.concatenate([key().words(300_000)])[-4:])
    assert "withheld" in repr(a)
