"""The training that a new federation starts with. `sordino bench federation` showed that it improves the model.

It trains adapters on the public base by plain SGD, one step a round, with momentum at the server.
docs/federation-benchmark.md lists the alternatives that were tried. Training all parameters of the base at the same
epsilon gained nothing, because noise grows with the square root of their number.

    >>> plan = suggested_plan(PrivacyPolicy(), context=512)
    >>> plan.learning_rate, plan.steps
    (0.25, 1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sordino_platform.charter import PrivacyPolicy
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError

ROUNDS = 30
"""The number of rounds for which the noise is chosen. More rounds need more noise, and each gains less."""

OPTIMISER = ServerOptimiser(name="fedavgm", learning_rate=1.6, beta1=0.8)
DELTA = 1e-6
# The accountant rounds up: a plan for exactly the budget would be refused in its last round.
PLANNED_SHARE = 0.98
SMALLEST_NOISE = 0.5
NOISE_STEP = 0.05


# From this many clusters per member's noise in the sum, noise no longer limits a federation: it takes steps four times
# as long, and reads two windows of a unit. Found by a search on public projects (plan_search).
AMPLE_CLUSTERS = 2500
AMPLE_RATE, AMPLE_OPTIMISER = 0.4, ServerOptimiser(name="fedavgm", learning_rate=4.0, beta1=0.8)
AMPLE_WINDOWS = 2
# With fewer units, the step of a round of noise alone would be longer than a charter's largest move.
SMALLEST_UNITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The training of a federation's rounds: the members' plan, and the server's step after it."""

    plan: TrainingPlan
    optimiser: ServerOptimiser


@lru_cache(maxsize=16)
def suggested_training(
    privacy: PrivacyPolicy, *, context: int, members: int = 0, clusters: int = 0, shares: int = 1
) -> Training:
    """The training that the search found to gain the most, with the smallest noise at which `ROUNDS` rounds fit into
    the policy's epsilon.

    `context` is the model's, in tokens. `clusters` is the number of file clusters of all `members` together. It is the
    founder's estimate and never a count (0: no estimate, and the cautious plan is suggested). `shares` is the number of
    members whose noise is enough for a sum: 1 when each adds all of it. Raises ConfigurationError when no noise is
    enough.
    """
    sampling_rate, steps = min(0.1, privacy.largest_sampling_rate), 1
    noise = affordable_noise(
        sampling_rate,
        steps * ROUNDS,
        within=PLANNED_SHARE * privacy.largest_epsilon,
        least=max(SMALLEST_NOISE, privacy.smallest_noise_multiplier),
        delta=min(DELTA, privacy.largest_delta),
    )
    ample = is_ample(members=members, clusters=clusters, shares=shares)
    plan = TrainingPlan(
        sampling_rate=sampling_rate,
        noise_multiplier=noise,
        clip_norm=min(0.2, privacy.largest_clip_norm),
        steps=steps,
        windows_per_unit=AMPLE_WINDOWS if ample else 1,
        window=min(128, context),
        learning_rate=AMPLE_RATE if ample else 0.25,
        optimiser="sgd",
        delta=min(DELTA, privacy.largest_delta),
        expected_units=max(SMALLEST_UNITS, round(sampling_rate * clusters / members))
        if members and clusters
        else 190,
    )
    return Training(plan=plan, optimiser=AMPLE_OPTIMISER if ample else OPTIMISER)


def is_ample(*, members: int, clusters: int, shares: int) -> bool:
    """Whether the clusters outweigh the noise. The sum has `members / shares` times the variance of one whole noise,
    however many clusters there are."""
    return bool(members and clusters) and clusters / math.sqrt(max(1.0, members / shares)) >= AMPLE_CLUSTERS


def suggested_plan(privacy: PrivacyPolicy, *, context: int) -> TrainingPlan:
    """The members' plan of `suggested_training` without an estimate of the clusters."""
    return suggested_training(privacy, context=context).plan


def affordable_noise(
    sampling_rate: float,
    steps: int,
    *,
    within: float,
    least: float,
    delta: float = DELTA,
    beside: Sequence[SampledGaussian] = (),
) -> float:
    """The smallest noise multiplier (from `least` in steps of 0.05) at which `steps` steps, together with the events in
    `beside`, cost at most `within`.

    Raises ConfigurationError when a multiplier of 100 is not enough.
    """

    def costs(places: int) -> float:
        event = SampledGaussian(
            sampling_rate=sampling_rate, noise_multiplier=round(least + places * NOISE_STEP, 2), steps=steps
        )
        return epsilon([event, *beside], delta).value

    low, high = (
        -1,
        0,
    )  # more noise never costs more: double until it is enough, then bisect to the smallest
    while costs(high) > within:
        low, high = high, 2 * high + 1
        if least + high * NOISE_STEP > 100:
            raise ConfigurationError(f"no useful noise keeps {steps} steps within epsilon {within:g}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if costs(middle) > within else (low, middle)
    return round(least + high * NOISE_STEP, 2)
