"""What honest members can make of a sum, checked alike by the coordinator and by every member, and what they cannot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sordino_platform.charter import shipped_model
from sordino_platform.proposal import norm_limit, quantiser_for, require_honest_mean
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.secagg import MaskedStatistics, NormError, Quantiser, Totals

PLAN = TrainingPlan(
    sampling_rate=0.2,
    noise_multiplier=1.0,
    clip_norm=0.2,
    steps=2,
    windows_per_unit=1,
    window=192,
    learning_rate=0.2,
    optimiser="sgd",
    delta=1e-6,
    expected_units=64,
)
MEMBERS = 8
Update = npt.NDArray[np.float32]


def summed(quantiser: Quantiser, updates: list[Update], weights: list[float]) -> Totals:
    random = np.random.default_rng(11)
    total = np.zeros(quantiser.length, quantiser.dtype)
    for update, weight in zip(updates, weights, strict=True):
        total += quantiser.quantise(update, weight, MaskedStatistics(), random.bytes).vector
    return quantiser.decode(total)


def honest(quantiser: Quantiser, random: np.random.Generator) -> Update:
    """The longest that the engine allows: every step's signal at its bound, and all members' in one direction."""
    update = random.normal(0, PLAN.noise_deviation(), (PLAN.steps, quantiser.dimension)).sum(0)
    update += PLAN.steps * PLAN.signal_norm() / np.sqrt(quantiser.dimension)
    return np.asarray(PLAN.learning_rate * update, np.float32)


@pytest.fixture(scope="module")
def quantiser() -> Quantiser:
    return quantiser_for(shipped_model(adapter_rank=1).config(), PLAN, members=MEMBERS)


@pytest.mark.parametrize("weights", [[1.0] * MEMBERS, [0.125] * MEMBERS, [0.125, 1.0] * (MEMBERS // 2)])
def test_honest_members_pull_in_one_direction_and_are_never_refused(
    quantiser: Quantiser, weights: list[float]
) -> None:
    random = np.random.default_rng(2)
    totals = summed(quantiser, [honest(quantiser, random) for _ in weights], weights)
    require_honest_mean(PLAN, totals, survivors=MEMBERS)


def test_one_member_that_fills_the_rings_range_is_refused(quantiser: Quantiser) -> None:
    """The range allows eight deviations in every coordinate, many times an honest update."""
    random = np.random.default_rng(3)
    reach = np.concatenate([np.full(g.length, g.range, np.float32) for g in quantiser.groups])
    updates = [honest(quantiser, random) for _ in range(MEMBERS - 1)]
    with pytest.raises(NormError, match="norm"):
        require_honest_mean(PLAN, summed(quantiser, [*updates, reach], [1.0] * MEMBERS), survivors=MEMBERS)


@pytest.mark.parametrize(
    ("weights", "allowed"),
    [
        ([0.125] * MEMBERS, True),
        ([0.124] * MEMBERS, False),
        ([1.0] * MEMBERS, True),
        ([1.0] * (MEMBERS + 1), False),
    ],
)
def test_weights_are_an_eighth_to_one_each_or_the_sum_is_refused(
    quantiser: Quantiser, weights: list[float], allowed: bool
) -> None:
    still = np.zeros(quantiser.dimension, np.float32)
    totals = summed(quantiser, [still] * len(weights), weights)
    if allowed:
        require_honest_mean(PLAN, totals, survivors=MEMBERS)
    else:
        with pytest.raises(NormError, match="weights"):
            require_honest_mean(PLAN, totals, survivors=MEMBERS)


def test_a_mean_of_many_members_has_less_room_than_one_update(quantiser: Quantiser) -> None:
    limits = [norm_limit(PLAN, quantiser, members=members) for members in (1, 2, 8, 64)]
    assert limits == sorted(limits, reverse=True)
    assert limits[2] < 0.7 * limits[0]
