"""The terms of the field's federations: the profile's plan with the noise that its rounds can afford."""

from __future__ import annotations

from typing import Any

from sordino_client.laboratory.federation_benchmark.profile import EPSILONS
from sordino_client.laboratory.federation_benchmark.terms import LEAST_NOISE, Terms, plan_within
from sordino_client.laboratory.field_benchmark.profile import FieldProfile
from sordino_platform.charter import FloorTerms, PrivacyPolicy, SharedMemoryPolicy
from sordino_platform.demo.plans import DELTA
from sordino_privacy.accounting import SampledGaussian
from sordino_privacy.dpsgd import TrainingPlan

# If all other members collude with the coordinator, only a member's own share of the noise protects it. The benchmark's
# members agree to any epsilon in that case; the figure is reported.
AGREED_IF_OTHERS_COLLUDE = 100_000.0
# Both are half of what the product suggests. With half the phrases the threshold is lower by a factor of sqrt(2), which
# makes up for them, and half the reading saves minutes on one core.
COUNT_TOKENS, COUNT_PHRASES = 512, 100


def floors_of(members: int) -> FloorTerms:
    """The floors: a fifth of the members may collude and a sixth may drop out; the others add enough noise together."""
    corrupt = FloorTerms().as_secagg().corrupt(members)
    honest = members - corrupt - members // 6
    return FloorTerms(cohort=corrupt + honest, honest=honest, organisations=3)


def field_terms_within(profile: FieldProfile, epsilon: float) -> Terms:
    """The federation at a budget of `epsilon`, with its noise added in shares.

    At the first epsilon the noise leaves budget for one count of phrases.
    """
    schedule = profile.schedule(epsilon)
    counts = epsilon == EPSILONS[0]
    return Terms(
        parties=profile.training,
        model=profile.model,
        privacy=PrivacyPolicy(
            largest_epsilon=epsilon,
            smallest_noise_multiplier=LEAST_NOISE,
            largest_steps=1,
            noise="distributed",
        ),
        floors=floors_of(profile.members),
        epsilon_if_others_collude=AGREED_IF_OTHERS_COLLUDE,
        plan=plan_within(
            profile, epsilon, rounds=schedule.rounds, beside=[count_event(profile)] if counts else []
        ),
        rounds=schedule.rounds,
        optimiser=schedule.optimiser,
        windows_kept=profile.windows_kept,
        shared_memory=SharedMemoryPolicy() if counts else None,
    )


def count_event(profile: FieldProfile) -> SampledGaussian:
    """The cost of one count of phrases in the federation."""
    return SampledGaussian(sampling_rate=1.0, noise_multiplier=profile.count_noise, steps=1)


def count_settings(profile: FieldProfile) -> dict[str, Any]:
    """The coordinator's [counts] settings, with the noise that the budget allows."""
    return {
        "noise_multiplier": profile.count_noise,
        "delta": DELTA,
        "window": profile.window,
        "windows_per_unit": COUNT_TOKENS // profile.window,
        "phrases": COUNT_PHRASES,
    }


def plan_alone(profile: FieldProfile, epsilon: float) -> TrainingPlan:
    """The plan of a member that trains alone and adds all the noise itself."""
    return plan_within(profile, epsilon, rounds=profile.alone.rounds)
