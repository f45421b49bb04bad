"""A plan is public, checked, and names itself; its update range depends on no data and is wide enough."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError

PLAN = TrainingPlan(
    sampling_rate=0.1,
    noise_multiplier=1.0,
    clip_norm=0.5,
    steps=4,
    windows_per_unit=4,
    window=256,
    learning_rate=0.5,
    optimiser="sgd",
    delta=1e-6,
    expected_units=32,
)


def test_a_plan_reads_back_from_its_canonical_form() -> None:
    assert TrainingPlan.parse(json.loads(PLAN.canonical())) == PLAN


def test_whole_and_decimal_spellings_of_a_number_are_one_plan() -> None:
    assert replace(PLAN, noise_multiplier=1).digest() == replace(PLAN, noise_multiplier=1.0).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"sampling_rate": 0.2},
        {"noise_multiplier": 2.0},
        {"clip_norm": 1.0},
        {"steps": 5},
        {"windows_per_unit": 5},
        {"window": 128},
        {"learning_rate": 1.0},
        {"optimiser": "adam"},
        {"delta": 1e-7},
        {"expected_units": 33},
    ],
)
def test_every_setting_is_part_of_the_digest(change: dict[str, object]) -> None:
    assert TrainingPlan.parse({**asdict(PLAN), **change}).digest() != PLAN.digest()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.1},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.nan},
        {"clip_norm": -1.0},
        {"clip_norm": math.inf},
        {"steps": 0},
        {"steps": 1.5},
        {"steps": True},
        {"windows_per_unit": 0},
        {"window": 1 << 20},
        {"learning_rate": "0.1"},
        {"optimiser": "rmsprop"},
        {"delta": 0.5},
        {"expected_units": 0},
    ],
)
def test_an_impossible_plan_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        TrainingPlan.parse({**asdict(PLAN), **wrong})


def test_an_unknown_or_missing_setting_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="dropout"):
        TrainingPlan.parse({**asdict(PLAN), "dropout": 0.1})
    with pytest.raises(ConfigurationError, match="steps"):
        TrainingPlan.parse({name: value for name, value in asdict(PLAN).items() if name != "steps"})


def test_the_sgd_range_holds_eight_deviations_of_the_rounds_noise() -> None:
    wide = PLAN.update_range({"large": 10**9})["large"]
    noise = PLAN.learning_rate * math.sqrt(PLAN.steps) * PLAN.noise_deviation()
    assert wide == pytest.approx(8 * noise, rel=1e-2)


def test_small_tensors_get_more_room_than_large_ones() -> None:
    ranges = PLAN.update_range({"norm.weight": 192, "embed.weight": 786_432})
    assert ranges["norm.weight"] > 3 * ranges["embed.weight"]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 40),
    shape=st.sampled_from(["normal", "rare", "growing", "alternating"]),
)
def test_no_gradients_can_push_adam_beyond_its_range(seed: int, steps: int, shape: str) -> None:
    plan = replace(PLAN, optimiser="adam", steps=steps, learning_rate=0.1)
    generator = np.random.default_rng(seed)
    gradients = generator.standard_normal((steps, 8))
    if shape == "rare":
        gradients *= generator.random((steps, 8)) < 0.1
    elif shape == "growing":
        gradients = np.abs(gradients) * 4.0 ** np.arange(steps)[:, None]
    elif shape == "alternating":
        gradients *= (-1.0) ** np.arange(steps)[:, None]
    parameter = torch.nn.Parameter(torch.zeros(8, dtype=torch.float64))
    optimizer = torch.optim.Adam([parameter], lr=plan.learning_rate)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    bound = plan.update_range({"any": 8})["any"]
    assert float(parameter.detach().abs().max()) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("dimension", [1, 40, 10_000])
def test_no_rounds_noise_and_clipped_signal_are_longer_than_the_norm_bound(dimension: int) -> None:
    random, bound = np.random.default_rng(3), PLAN.update_norm({"all": dimension})
    signal = np.zeros(dimension)
    signal[0] = PLAN.clip_norm  # every step's mean of clipped gradients, all in one direction
    for _ in range(300):
        noise = random.normal(0, PLAN.noise_deviation(), (PLAN.steps, dimension))
        assert np.linalg.norm(PLAN.learning_rate * (signal + noise).sum(0)) <= bound


def test_where_noise_dominates_twice_an_honest_updates_length_is_beyond_the_norm_bound() -> None:
    honest = PLAN.learning_rate * math.sqrt(PLAN.steps * 10**7) * PLAN.noise_deviation()
    assert honest < PLAN.update_norm({"all": 10**7}) < 2 * honest


@pytest.mark.parametrize("members", [3, 8])
def test_no_mean_of_members_rounds_is_longer_than_its_own_norm_bound(members: int) -> None:
    random, bound = np.random.default_rng(5), PLAN.update_norm({"all": 1000}, members=members)
    signal = np.zeros(1000)
    signal[0] = PLAN.steps * PLAN.clip_norm
    for _ in range(100):
        noise = random.normal(0, PLAN.noise_deviation(), (members, PLAN.steps, 1000)).sum(1).mean(0)
        assert np.linalg.norm(PLAN.learning_rate * (signal + noise)) <= bound
    assert bound < PLAN.update_norm({"all": 1000})


def test_adams_norm_bound_is_its_range_in_every_coordinate() -> None:
    plan = replace(PLAN, optimiser="adam")
    reach = plan.update_range({"a": 5, "b": 7})
    assert plan.update_norm({"a": 5, "b": 7}) == pytest.approx(
        math.sqrt(5 * reach["a"] ** 2 + 7 * reach["b"] ** 2)
    )
