"""Distributed noise: the sampler's exact probabilities, the rounding's bound, and what the accountant makes of both."""

from __future__ import annotations

import math
from bisect import bisect_right
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.errors import ConfigurationError, UsageError
from sordino_privacy.keystream import Keystream
from sordino_privacy.shared_noise import DiscreteGaussian, SharedNoise, levels
from sordino_privacy.shared_noise import discrete as sampler
from sordino_privacy.shared_noise.release import ROUNDING_BITS, _rounded_sensitivity

KEY = bytes(range(32))


def probabilities(variance: float, reach: int) -> npt.NDArray[np.float64]:
    """Of -reach .. reach, by definition."""
    weights: npt.NDArray[np.float64] = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * variance))
    weights /= weights.sum()
    return weights


class Bits(Keystream):
    """A stream whose words are all the same."""

    __slots__ = ("_word",)

    def __init__(self, word: int) -> None:
        super().__init__(KEY)
        self._word = word

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        return np.full(count, self._word, dtype=np.uint64)


# ---------------------------------------------------------------------------------------------------- the sampler


@pytest.mark.parametrize("variance", [16.0, 100.0, 1e5])
def test_the_table_holds_the_exact_cumulative_probabilities(variance: float) -> None:
    table = DiscreteGaussian(variance)._table
    exact = DiscreteGaussian(variance).variance
    assert variance <= exact <= variance * 1.0001
    places = range(-table._reach, table._reach + 1)
    with localcontext(prec=120):
        weights = [(Decimal(-(z * z)) / (2 * Decimal(exact))).exp() for z in places]
        total, below = sum(weights), Decimal(0)
        for weight, boundary in zip(weights, table._boundaries, strict=False):
            below += weight
            assert abs(Decimal(boundary) / (1 << sampler.BITS) - below / total) < Decimal(2) ** -250


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=64), st.sampled_from([16.0, 40_000.0]))
@settings(max_examples=60, deadline=None)
def test_every_word_is_inverted_as_the_exact_table_says(words: list[int], variance: float) -> None:
    table = DiscreteGaussian(variance)._table
    # Besides random words: the boundaries' own, which no 64 bits decide, and their neighbours.
    near = [int(word) + by for word in table._first[:: max(1, len(table._first) // 40)] for by in (-1, 0, 1)]
    every = np.array([w for w in [*words, *near, 0, 2**64 - 1] if 0 <= w < 2**64], dtype=np.uint64)
    for more in (0, 2**64 - 1):
        found = table._invert(every, Bits(more))
        for word, value in zip(every.tolist(), found.tolist(), strict=True):
            bits = int(word)
            for _ in range(3):
                bits = bits << 64 | more
            assert value == bisect_right(table._boundaries, bits) - table._reach


@pytest.mark.parametrize("variance", [16.0, 3783.0**2, 130_000.0**2])
def test_draws_pass_chi_square_against_the_probabilities(variance: float) -> None:
    gaussian, count = DiscreteGaussian(variance), 1 << 20
    drawn = gaussian.draw(Keystream(KEY), count)
    deviation = math.sqrt(gaussian.variance)
    reach = math.ceil(9 * deviation)
    exact = probabilities(gaussian.variance, reach)
    width = max(1, round(deviation / 16))
    edges = np.arange(-5 * 16, 5 * 16 + 1) * width
    cells = np.searchsorted(edges, np.arange(-reach, reach + 1), side="right")
    expected = count * np.bincount(cells, weights=exact, minlength=len(edges) + 1)
    found = np.bincount(np.searchsorted(edges, drawn, side="right"), minlength=len(edges) + 1)
    kept = expected > 10
    statistic = float(((found - expected)[kept] ** 2 / expected[kept]).sum())
    assert chi2.sf(statistic, kept.sum() - 1) > 1e-6


def test_moments_are_the_gaussians_and_neighbours_are_independent() -> None:
    gaussian, count = DiscreteGaussian(3783.0**2), 1 << 21
    drawn = gaussian.draw(Keystream(KEY), count) / math.sqrt(gaussian.variance)
    assert abs(drawn.mean()) < 5 / math.sqrt(count)
    assert abs(drawn.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((drawn**3).mean()) < 5 * math.sqrt(15 / count)
    assert abs((drawn**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert abs((drawn[1:] * drawn[:-1]).mean()) < 5 / math.sqrt(count)


@pytest.mark.parametrize("factor", [1, 5, 20])
def test_two_narrow_draws_are_one_wide_one(factor: int) -> None:
    base = 64.0 * (1 + factor**2)
    reach = math.ceil(10 * math.sqrt(base))
    one = probabilities(base, reach)
    spread = np.zeros(2 * reach * factor + 1)
    spread[::factor] = one
    both = np.convolve(spread, one)
    middle = len(both) // 2
    inside = math.floor(6 * math.sqrt(base * (1 + factor**2)))
    exact = probabilities(base * (1 + factor**2), middle)
    ratio = both[middle - inside : middle + inside + 1] / exact[middle - inside : middle + inside + 1]
    assert np.abs(ratio - 1).max() < 1e-8


def test_the_combination_keeps_its_smoothness_over_all_widths() -> None:
    for deviation in np.geomspace(sampler.LEAST_DEVIATION, sampler.MOST_DEVIATION, 200):
        gaussian = DiscreteGaussian(float(deviation) ** 2)
        ends = gaussian._table._first.nbytes
        assert ends < 1 << 20  # stays in the cache
        if gaussian._factor:
            base = gaussian.variance / (1 + gaussian._factor**2)
            assert 2 * math.pi**2 * base / (1 + gaussian._factor**2) > 320


def test_the_sum_of_shares_is_a_discrete_gaussian() -> None:
    one = probabilities(16.0, 60)
    both = one
    for _ in range(4):
        both = np.convolve(both, one)
    middle = len(both) // 2
    inside = slice(middle - 50, middle + 51)
    assert np.abs(both[inside] / probabilities(5 * 16.0, middle)[inside] - 1).max() < 1e-9


# --------------------------------------------------------------------------------------------------- the rounding


@pytest.mark.parametrize("fraction", [0.5, 0.25, 0.9])
def test_neighbours_differ_by_less_than_the_sensitivity_after_rounding(fraction: float) -> None:
    dimension = 1 << 18
    noise = SharedNoise(noise_multiplier=0.8, honest=6, members=8, dimension=dimension)
    rng = np.random.default_rng(5)
    base = rng.uniform(-3, 3, dimension)
    # The direction in which rounding adds most: every coordinate moves by the same fraction of an integer.
    move = np.full(dimension, fraction) * rng.choice([-1, 1], dimension)
    move *= min(1.0, noise.scale / float(np.linalg.norm(move))) / noise.scale
    one, other = (noise._round(vector.copy(), Keystream(KEY)) for vector in (base, base + move))
    distance = float(np.linalg.norm((one - other).astype(float)))
    assert distance <= _rounded_sensitivity(1, dimension) + np.linalg.norm(move) * noise.scale
    longest = _rounded_sensitivity(noise.scale, dimension)
    assert distance <= longest < 1.002 * noise.scale
    # And it is the rounding that the bound is about, not its absence.
    assert distance > np.linalg.norm(move) * noise.scale


@given(st.integers(1, 200), st.integers(1, 64), st.floats(0.0, 1.0), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_the_rounding_bound_is_hoeffdings(dimension: int, scale: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    move = rng.normal(size=dimension) * (rng.random(dimension) <= max(spread, 1 / dimension))
    move = move / (np.linalg.norm(move) or 1.0) * scale
    rounded = np.floor(move + rng.random((200, dimension)))
    assert np.linalg.norm(rounded, axis=1).max() <= _rounded_sensitivity(scale, dimension)


def test_rounding_has_no_bias_and_saturates_in_the_box() -> None:
    noise = SharedNoise(noise_multiplier=0.8, honest=2, members=8, dimension=1 << 16)
    vector = np.full(noise.dimension, 0.3 / noise.scale)
    found = noise._round(vector.copy(), Keystream(KEY))
    assert set(found.tolist()) == {0, 1}
    assert abs(found.mean() - 0.3) < 5 * math.sqrt(0.21 / noise.dimension)
    assert (noise._round(vector * 0 + 1e9, Keystream(KEY)) == noise.levels).all()
    assert (noise._round(vector * 0 - 1e9, Keystream(KEY)) == -noise.levels).all()


def test_a_release_is_the_vector_and_the_share_of_the_noise() -> None:
    noise = SharedNoise(noise_multiplier=0.8, honest=6, members=8, dimension=1 << 18)
    vector = np.random.default_rng(1).normal(size=noise.dimension).astype(np.float32)
    rest = noise.release(vector, Keystream(KEY)) * noise.step - vector
    assert abs(rest.std() * math.sqrt(6) / 0.8 - 1) < 5 / math.sqrt(2 * noise.dimension)
    assert abs(rest.mean()) < 5 * rest.std() / math.sqrt(noise.dimension)
    assert abs(np.corrcoef(rest, vector)[0, 1]) < 5 / math.sqrt(noise.dimension)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_never_released(value: float) -> None:
    noise = SharedNoise(noise_multiplier=0.8, honest=2, members=3, dimension=3)
    with pytest.raises(UsageError, match="not finite"):
        noise.release(np.array([0.0, value, 0.0]), Keystream(KEY))
    with pytest.raises(UsageError, match="3 coordinates"):
        noise.release(np.zeros(4), Keystream(KEY))


@given(
    st.floats(0.05, 1e4),
    st.integers(1, 256).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    st.sampled_from([1, 1000, 114_816, 3_400_000, 1 << 30]),
)
@settings(max_examples=60, deadline=None)
def test_a_sum_of_all_members_stays_in_the_ring_but_for_two_to_the_minus_forty(
    multiplier: float, sizes: tuple[int, int], dimension: int
) -> None:
    honest, members = sizes
    noise = SharedNoise(noise_multiplier=multiplier, honest=honest, members=members, dimension=dimension)
    left = 2**31 - members * levels(members)
    # Each share is sub-Gaussian (Canonne, Kamath and Steinke 2020), and so is their sum.
    exponent = left**2 / (2 * members * noise.share_variance)
    assert math.log(2 * dimension) - exponent <= -40 * math.log(2)
    assert noise.share_variance * honest >= (multiplier * noise.scale) ** 2
    assert noise.federation() <= multiplier * 1.0001
    assert noise.alone() <= noise.federation()


@pytest.mark.parametrize(
    ("honest", "members", "multiplier"),
    [(0, 5, 1.0), (6, 5, 1.0), (5, 257, 1.0), (3, 5, 0.01), (3, 5, math.nan)],
)
def test_impossible_terms_are_refused(honest: int, members: int, multiplier: float) -> None:
    with pytest.raises(ConfigurationError):
        SharedNoise(noise_multiplier=multiplier, honest=honest, members=members, dimension=10)


# --------------------------------------------------------------------------------------------------- the accounting


def test_the_surcharge_over_the_gaussian_is_small_and_never_negative() -> None:
    noise = SharedNoise(noise_multiplier=0.8, honest=6, members=8, dimension=114_816)
    assert 0.799 < noise.federation() <= 0.8
    gaussian = epsilon([SampledGaussian(sampling_rate=0.1, noise_multiplier=0.8, steps=30)], 1e-6)
    shared = epsilon([noise.event(sampling_rate=0.1, steps=30)], 1e-6)
    assert gaussian.value <= shared.value < 1.02 * gaussian.value
    own = SampledGaussian(sampling_rate=0.1, noise_multiplier=0.8 / math.sqrt(6), steps=30)
    alone = epsilon([noise.event_alone(sampling_rate=0.1, steps=30)], 1e-6)
    assert epsilon([own], 1e-6).value <= alone.value < 54.5


@pytest.mark.parametrize(("rate", "steps"), [(1.0, 1), (0.1, 30), (0.25, 12)])
@pytest.mark.parametrize(("shares", "shift"), [(1, 12), (3, 21), (6, 30)])
def test_the_exact_privacy_loss_of_summed_shares_is_within_what_is_claimed(
    rate: float, steps: int, shares: int, shift: int
) -> None:
    """The second route: the very probabilities of a sum of shares in one coordinate, composed numerically."""
    gaussian = DiscreteGaussian(100.0)
    one = probabilities(gaussian.variance, 250)
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    reach = len(total) // 2
    law = {z: float(p) for z, p in zip(range(-reach, reach + 1), total, strict=True) if p > 1e-280}
    without = {z: math.log(p) for z, p in law.items()}
    sampled = {
        z: math.log((1 - rate) * law.get(z, 0.0) + rate * law.get(z - shift, 0.0))
        for z in range(-reach, reach + shift + 1)
        if (1 - rate) * law.get(z, 0.0) + rate * law.get(z - shift, 0.0) > 1e-290
    }
    exact = 0.0
    for lower, upper in ((without, sampled), (sampled, without)):
        one_way = pld.from_two_probability_mass_functions(
            lower, upper, pessimistic_estimate=False, value_discretization_interval=1e-3
        )
        exact = max(exact, one_way.self_compose(steps).get_epsilon_for_delta(1e-6))
    multiplier = math.sqrt(shares * gaussian.variance - 4) / shift
    event = SampledGaussian(sampling_rate=rate, noise_multiplier=multiplier, steps=steps)
    claimed = epsilon([event], 1e-6).value
    # At a deviation of 10 the randomised rounding takes up to 2 % of the noise; at the product's widths, nothing.
    assert exact <= claimed + 1e-9
    assert claimed < 1.1 * exact


@pytest.mark.parametrize(("rate", "multiplier", "steps"), [(0.1, 0.8, 30), (0.05, 1.0, 60), (0.1, 2.5, 30)])
def test_the_renyi_route_agrees_from_above(rate: float, multiplier: float, steps: int) -> None:
    """A third route, which needs no Gaussian: moments of the discrete Gaussian itself, exact at whole orders for a
    mechanism that is symmetric (Mironov, Talwar and Zhang 2019); looser by a tenth."""
    noise = SharedNoise(noise_multiplier=multiplier, honest=6, members=8, dimension=114_816)
    variance = 6 * noise.share_variance / noise.sensitivity**2

    def moment(order: int) -> float:
        terms = [
            math.log(math.comb(order, taken))
            + taken * math.log(rate)
            + (order - taken) * math.log1p(-rate)
            + taken * (taken - 1) / (2 * variance)
            for taken in range(order + 1)
        ]
        return steps * float(np.logaddexp.reduce(terms))

    bound = min(
        moment(order) / (order - 1) + math.log1p(-1 / order) - math.log(1e-6 * order) / (order - 1)
        for order in range(2, 100)
    )
    claimed = epsilon([noise.event(sampling_rate=rate, steps=steps)], 1e-6).value
    assert claimed <= bound < 1.3 * claimed


def test_delta_pays_for_what_may_fail_in_every_step() -> None:
    event = SampledGaussian(sampling_rate=0.5, noise_multiplier=1.0, steps=1 << 20)
    with pytest.raises(ConfigurationError, match="delta is too small"):
        epsilon([event], 2.0**-40)
    assert ROUNDING_BITS == 60
