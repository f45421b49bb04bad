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

# A member whose fellows all collude with the coordinator is protected by its own share alone. The benchmark's members
# agree to whatever that is: the figure is reported.
AGREED_IF_OTHERS_COLLUDE = 100_000.0
# Half of what the product suggests, both: a threshold that is lower by the root of two makes up for half the phrases,
# by arithmetic, and half the reading is minutes less on one core.
COUNT_TOKENS, COUNT_PHRASES = 512, 100


def floors_of(members: int) -> FloorTerms:
    """The floors: a fifth of the members may collude and a sixth may drop out; the rest carry the noise together."""
    corrupt = FloorTerms().as_secagg().corrupt(members)
    honest = members - corrupt - members // 6
    return FloorTerms(cohort=corrupt + honest, honest=honest, organisations=3)


def field_terms_within(profile: FieldProfile, epsilon: float) -> Terms:
    """The federation at a budget of `epsilon`, its noise added in shares. At the first one its noise leaves room for
    a count of phrases."""
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
    """The cost of one count of phrases, as the federation holds."""
    return SampledGaussian(sampling_rate=1.0, noise_multiplier=profile.count_noise, steps=1)


def count_settings(profile: FieldProfile) -> dict[str, Any]:
    """The coordinator's [counts], with the noise that the budget has room for."""
    return {
        "noise_multiplier": profile.count_noise,
        "delta": DELTA,
        "window": profile.window,
        "windows_per_unit": COUNT_TOKENS // profile.window,
        "phrases": COUNT_PHRASES,
    }


def plan_alone(profile: FieldProfile, epsilon: float) -> TrainingPlan:
    """The plan of a member that trains by itself: all the noise is its own."""
    return plan_within(profile, epsilon, rounds=profile.alone.rounds)
