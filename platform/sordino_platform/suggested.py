"""The training that a new federation begins with: what `sordino bench federation` found to gain something.

Adapters on the public base and plain SGD of one step a round, with momentum at the server; what was tried beside it
stands in docs/federation-benchmark.md. Training all parameters of the base at the same epsilon gained nothing: noise
grows with the square root of their number.

    >>> plan = suggested_plan(PrivacyPolicy(), context=512)
    >>> plan.learning_rate, plan.steps
    (0.25, 1)
"""

from __future__ import annotations

from functools import lru_cache

from sordino_platform.charter import PrivacyPolicy
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError

ROUNDS = 30
"""The rounds that the noise is chosen for: more need more noise, and gain less each."""

OPTIMISER = ServerOptimiser(name="fedavgm", learning_rate=1.6, beta1=0.8)
DELTA = 1e-6
# The accountant rounds up: a plan for exactly the budget would be refused in its last round.
PLANNED_SHARE = 0.98
SMALLEST_NOISE = 0.5
NOISE_STEP = 0.05


@lru_cache(maxsize=16)
def suggested_plan(privacy: PrivacyPolicy, *, context: int) -> TrainingPlan:
    """The plan of the benchmark under a charter's privacy policy, with the smallest noise at which `ROUNDS` rounds fit
    into its epsilon; `context` is the model's, in tokens. Raises ConfigurationError when no noise is enough."""
    sampling_rate, steps = min(0.1, privacy.largest_sampling_rate), 1
    noise = affordable_noise(
        sampling_rate,
        steps * ROUNDS,
        within=PLANNED_SHARE * privacy.largest_epsilon,
        least=max(SMALLEST_NOISE, privacy.smallest_noise_multiplier),
        delta=min(DELTA, privacy.largest_delta),
    )
    return TrainingPlan(
        sampling_rate=sampling_rate,
        noise_multiplier=noise,
        clip_norm=min(0.2, privacy.largest_clip_norm),
        steps=steps,
        windows_per_unit=1,
        window=min(128, context),
        learning_rate=0.25,
        optimiser="sgd",
        delta=min(DELTA, privacy.largest_delta),
        expected_units=190,
    )


def affordable_noise(
    sampling_rate: float, steps: int, *, within: float, least: float, delta: float = DELTA
) -> float:
    """The smallest noise multiplier (from `least` in steps of 0.05) at which `steps` steps cost `within` at most.

    Raises ConfigurationError when a multiplier of 100 is not enough.
    """

    def costs(places: int) -> float:
        event = SampledGaussian(
            sampling_rate=sampling_rate, noise_multiplier=round(least + places * NOISE_STEP, 2), steps=steps
        )
        return epsilon([event], delta).value

    low, high = (
        -1,
        0,
    )  # more noise never costs more: doubled until it is enough, then halved down to the first
    while costs(high) > within:
        low, high = high, 2 * high + 1
        if least + high * NOISE_STEP > 100:
            raise ConfigurationError(f"no useful noise keeps {steps} steps within epsilon {within:g}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if costs(middle) > within else (low, middle)
    return round(least + high * NOISE_STEP, 2)
