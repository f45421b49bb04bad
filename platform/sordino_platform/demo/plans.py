"""The demo's plans of training and counting, and the members' budgets, for a few minutes on two cores."""

from __future__ import annotations

from collections.abc import Mapping

from sordino_platform.suggested import affordable_noise
from sordino_privacy.accounting import SampledGaussian
from sordino_privacy.errors import SordinoError

ADAPTER_RANK = 1
EPSILON_BUDGET = 8.0
EPSILON_PLANNED = 7.5
LEAST_NOISE = 0.6
DELTA = 1e-6
# For repositories of a few hundred files and a few minutes on two cores. Few trained parameters (adapters of rank 1,
# norms, output bias: 25,216), because the noise grows with the square root of their number. Plain SGD, because Adam
# amplifies the noise of coordinates without signal. docs/demo.md has the trials on this corpus.
PLAN: dict[str, object] = {
    "sampling_rate": 0.2,
    "clip_norm": 0.2,
    "steps": 2,
    "windows_per_unit": 1,
    "window": 192,
    "learning_rate": 0.2,
    "optimiser": "sgd",
    "delta": DELTA,
    "expected_units": 64,
}
# The first round counts phrases of the field, and the others train. Both add their noise in shares: the shares of three
# honest members, the charter's floor, are enough. One step a round, at twice the rate.
SHARED_PLAN: dict[str, object] = {**PLAN, "steps": 1, "learning_rate": 0.4}
COUNTS: dict[str, object] = {
    "phrases": 150,
    "noise_multiplier": 1.0,
    "window": PLAN["window"],
    "windows_per_unit": 1,
    "expected_units": 400,
    "delta": DELTA,
}
# The epsilon that the demo's members accept for the case that all others collude with the coordinator.
AGREED_IF_OTHERS_COLLUDE = 40.0
# On a larger base a token costs forty times as much: fewer units, one step a round, and more time. The rate is lower
# because rank 1 on every layer of SmolLM2 has twelve times as many numbers, each with its noise.
BASE_PLAN: dict[str, object] = {
    **PLAN,
    "sampling_rate": 0.04,
    "steps": 1,
    "window": 128,
    "learning_rate": 0.05,
    "expected_units": 12,
}
BASE_TRAIN_SECONDS, BASE_HELDOUT_TOKENS, BASE_MEMORY_GB = 1500.0, 3_000, 3.0


def plan_for(
    rounds: int, plan: Mapping[str, object] = PLAN, *, counts: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The demo's plan with the noise that the budget needs for `rounds` rounds and a spare one. With `counts`, one of
    the rounds counts."""
    steps, beside = int(str(plan["steps"])) * (rounds + 1), []
    if counts is not None:
        noise = float(str(counts["noise_multiplier"]))
        beside = [SampledGaussian(sampling_rate=1.0, noise_multiplier=noise, steps=1)]
        steps -= int(str(plan["steps"]))
    noise = affordable_noise(
        float(str(plan["sampling_rate"])), steps, within=EPSILON_PLANNED, least=LEAST_NOISE, beside=beside
    )
    return {**plan, "noise_multiplier": noise}


def require_rounds(rounds: int) -> None:
    """Raises SordinoError for a number of rounds that the demo cannot show."""
    if not 2 <= rounds <= 100:
        raise SordinoError("the demo runs 2 to 100 rounds", hint="in one of them a member is killed")
