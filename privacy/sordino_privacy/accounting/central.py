"""The central epsilon: of the released model, conditional on secure aggregation and on named honest members.

An observer who sees only the sum sees the noise of all honest members together. Where one round is one noisy SGD step,
the sum is linear in each member's noise: with honest members of weights w_j, a unit of the member with weight w is
hidden by noise of `sigma * sqrt(sum w_j^2) / w`. The bound is stated for the worst case, the member with the largest
weight.

With several local steps, or with a local Adam, the later gradients depend on the earlier noise and this argument fails.
Then only the local epsilon is claimed, which does not need the argument. The two are never added, compared or mixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sordino_privacy.accounting.epsilon import Epsilon, SampledGaussian, epsilon
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.training_plan import TrainingPlan


def central_epsilon(
    plan: TrainingPlan, rounds: int, honest_weights: Sequence[float], delta: float
) -> Epsilon:
    """The central epsilon of `rounds` aggregated rounds in which members with these (public) weights were honest and
    took part.

    Raises ConfigurationError without a round or an honest member, or for a weight that is not above 0.
    """
    if rounds < 1 or not honest_weights or not all(math.isfinite(w) and w > 0 for w in honest_weights):
        raise ConfigurationError(
            "a central epsilon needs rounds and the weights of at least one honest member"
        )
    event = SampledGaussian.of(plan)
    gain = 1.0
    if plan.steps == 1 and plan.optimiser == "sgd":
        gain = math.sqrt(sum(w * w for w in honest_weights)) / max(honest_weights)
    # Rounded down to six decimals: never claim more noise than there is.
    noise = math.floor(event.noise_multiplier * gain * 1e6) / 1e6
    aggregated = SampledGaussian(
        sampling_rate=event.sampling_rate, noise_multiplier=noise, steps=event.steps * rounds
    )
    return Epsilon(value=epsilon([aggregated], delta).value, delta=delta, scope="central")
