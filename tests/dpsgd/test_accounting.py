"""Known answers, a second opinion from above, and two epsilons that never mix."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_privacy.accounting import (
    Epsilon,
    SampledGaussian,
    central_epsilon,
    epsilon,
    group_epsilon,
    merged_events,
    runs_left,
)
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.opacus_layer import rdp_epsilon
from sordino_privacy.errors import ConfigurationError

PLAN = TrainingPlan(
    sampling_rate=0.1,
    noise_multiplier=2.0,
    clip_norm=0.5,
    steps=1,
    windows_per_unit=4,
    window=256,
    learning_rate=0.5,
    optimiser="sgd",
    delta=1e-6,
    expected_units=32,
)
KNOWN = [
    (0.01, 0.8, 1000, 3.707),
    (0.05, 1.0, 1000, 12.238),
    (0.1, 1.5, 600, 10.329),
    (0.25, 3.0, 400, 9.309),
    (0.02, 0.8, 50 * 20, 7.337),
]


def event(rate: float, noise: float, steps: int) -> SampledGaussian:
    return SampledGaussian(sampling_rate=rate, noise_multiplier=noise, steps=steps)


@pytest.mark.parametrize(("rate", "noise", "steps", "known"), KNOWN)
def test_known_answers(rate: float, noise: float, steps: int, known: float) -> None:
    assert epsilon([event(rate, noise, steps)], 1e-6).value == pytest.approx(known, abs=2e-3)


@pytest.mark.parametrize(("rate", "noise", "steps", "known"), KNOWN)
def test_opacus_renyi_accountant_agrees_from_above(
    rate: float, noise: float, steps: int, known: float
) -> None:
    second = rdp_epsilon([(rate, noise, steps)], 1e-6)
    assert known < second < 1.25 * known


def test_fifty_rounds_compose_to_far_less_than_their_sum() -> None:
    one = event(0.02, 0.8, 20)
    together = epsilon([one] * 50, 1e-6).value
    assert together == pytest.approx(7.34, abs=0.01)
    assert 50 * epsilon([one], 1e-6).value > 15 * together


def test_nothing_released_costs_nothing() -> None:
    assert epsilon([], 1e-6).value == 0


def test_events_of_one_kind_are_merged_whatever_their_order() -> None:
    a, b = event(0.1, 1.0, 3), event(0.2, 1.0, 5)
    assert merged_events([a, b, a]) == merged_events([b, a, a]) == (replace(a, steps=6), b)


@settings(max_examples=200, deadline=None)
@given(rate=st.floats(1e-6, 1.0), noise=st.floats(0.05, 1e4))
def test_the_grid_never_makes_a_plan_cheaper_and_hardly_dearer(rate: float, noise: float) -> None:
    gridded = SampledGaussian.of(replace(PLAN, sampling_rate=rate, noise_multiplier=noise))
    assert rate <= gridded.sampling_rate <= min(1.0, rate * 1.01)
    assert noise * 0.99 <= gridded.noise_multiplier <= noise


def test_nearby_rates_share_an_event() -> None:
    plans = [replace(PLAN, sampling_rate=0.1 + 1e-5 * i) for i in range(5)]
    assert len(merged_events(SampledGaussian.of(plan) for plan in plans)) == 1


@pytest.mark.parametrize("dearer", [(0.2, 1.0, 4), (0.1, 0.8, 4), (0.1, 1.0, 5)])
def test_more_sampling_less_noise_or_more_steps_cost_more(dearer: tuple[float, float, int]) -> None:
    assert epsilon([event(0.1, 1.0, 4)], 1e-6).value < epsilon([event(*dearer)], 1e-6).value


def test_runs_left_is_the_last_number_that_fits() -> None:
    spent, run = [event(0.1, 1.0, 4)], [event(0.1, 1.0, 2)]
    left = runs_left(spent, run, 5.0, 1e-6)
    assert left > 0
    assert epsilon([*spent, *run * left], 1e-6).value <= 5.0
    assert epsilon([*spent, *run * (left + 1)], 1e-6).value > 5.0
    assert runs_left(spent, run, 0.1, 1e-6) == 0


def test_a_whole_batch_is_the_plain_gaussian_mechanism() -> None:
    assert epsilon([event(1.0, 5.0, 1)], 1e-6).value == pytest.approx(
        epsilon([event(1.0 - 1e-9, 5.0, 1)], 1e-6).value, abs=5e-3
    )


def test_epsilons_of_different_scope_do_not_compare() -> None:
    local, central = Epsilon(value=1.0, delta=1e-6), Epsilon(value=1.0, delta=1e-6, scope="central")
    with pytest.raises(TypeError):
        _ = local <= central
    assert local <= Epsilon(value=2.0, delta=1e-6)


def test_honest_members_improve_the_central_epsilon_only_where_the_argument_holds() -> None:
    local = epsilon([SampledGaussian.of(PLAN)] * 20, 1e-6).value
    alone = central_epsilon(PLAN, 20, [1.0], 1e-6)
    eight = central_epsilon(PLAN, 20, [1.0] * 8, 1e-6)
    assert alone.scope == eight.scope == "central"
    assert alone.value == pytest.approx(local, abs=2e-3)
    assert eight.value < local / 2
    several_steps = central_epsilon(replace(PLAN, steps=20), 1, [1.0] * 8, 1e-6)
    assert several_steps.value == pytest.approx(local, abs=2e-3)
    adam = central_epsilon(replace(PLAN, optimiser="adam"), 20, [1.0] * 8, 1e-6)
    assert adam.value == pytest.approx(local, abs=2e-3)


def test_the_central_epsilon_is_stated_for_the_member_of_the_largest_weight() -> None:
    even = central_epsilon(PLAN, 20, [1.0] * 4, 1e-6).value
    uneven = central_epsilon(PLAN, 20, [4.0, 1.0, 1.0, 1.0], 1e-6).value
    assert uneven > even


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 1), (1.1, 1.0, 1), (0.1, 0.0, 1), (0.1, 1.0, 0)])
def test_impossible_events_are_refused(wrong: tuple[float, float, int]) -> None:
    with pytest.raises(ConfigurationError):
        event(*wrong)


@pytest.mark.parametrize("delta", [0.0, 0.5, -1.0])
def test_an_impossible_delta_is_refused(delta: float) -> None:
    with pytest.raises(ConfigurationError):
        epsilon([event(0.1, 1.0, 1)], delta)


def test_a_group_of_units_costs_more_than_in_proportion() -> None:
    events = [SampledGaussian(sampling_rate=0.02, noise_multiplier=0.8, steps=400)]
    one, two, eight = (group_epsilon(events, 1e-6, units).value for units in (1, 2, 8))
    assert one == epsilon(events, 1e-6).value
    assert two > 2 * one
    assert eight > 8 * one


def test_a_group_under_a_whole_batch_is_the_gaussian_mechanism_with_its_sensitivity() -> None:
    event = SampledGaussian(sampling_rate=1.0, noise_multiplier=8.0, steps=4)
    stronger = SampledGaussian(sampling_rate=1.0, noise_multiplier=2.0, steps=4)
    assert group_epsilon([event], 1e-6, 4).value == pytest.approx(epsilon([stronger], 1e-6).value, rel=0.01)


def test_a_group_of_no_units_or_of_too_many_is_refused() -> None:
    for units in (0, 65):
        with pytest.raises(ConfigurationError):
            group_epsilon([], 1e-6, units)
