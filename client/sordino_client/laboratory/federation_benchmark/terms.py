"""The terms of a benchmark's federation, and the plan with the smallest noise that its rounds can afford."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sordino_client.laboratory.federation_benchmark.profile import Profile, TrainedProfile
from sordino_platform.charter import FloorTerms, ModelTerms, PrivacyPolicy, SharedMemoryPolicy
from sordino_platform.demo.plans import DELTA
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_platform.suggested import PLANNED_SHARE, affordable_noise
from sordino_privacy.accounting import SampledGaussian
from sordino_privacy.dpsgd import TrainingPlan

LEAST_NOISE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of a benchmark's federation.

    `privacy` is the bound for every member. `windows_kept` windows are kept of each unit. Without `floors` every round
    needs all members. `epsilon_if_others_collude` is what each owner agrees to when noise is added in shares. With
    `shared_memory` the charter allows the counting of phrases.
    """

    parties: tuple[tuple[str, str], ...]
    model: ModelTerms
    privacy: PrivacyPolicy
    plan: TrainingPlan
    rounds: int
    optimiser: ServerOptimiser
    windows_kept: int
    floors: FloorTerms | None = None
    epsilon_if_others_collude: float = 0.0
    shared_memory: SharedMemoryPolicy | None = None


def terms_within(profile: Profile, epsilon: float) -> Terms:
    """The profile's federation at a budget of `epsilon` for each member."""
    schedule = profile.schedule(epsilon)
    return Terms(
        parties=profile.parties,
        model=profile.model,
        privacy=PrivacyPolicy(largest_epsilon=epsilon, smallest_noise_multiplier=LEAST_NOISE),
        plan=plan_within(profile, epsilon, rounds=schedule.rounds),
        rounds=schedule.rounds,
        optimiser=schedule.optimiser,
        windows_kept=profile.windows_kept,
    )


def plan_within(
    profile: TrainedProfile, epsilon: float, *, rounds: int, beside: Sequence[SampledGaussian] = ()
) -> TrainingPlan:
    """The profile's plan with the smallest noise that keeps `rounds` rounds and the costs `beside` them within
    `epsilon`.
    """
    noise = affordable_noise(
        profile.sampling_rate,
        profile.steps * rounds,
        within=epsilon * PLANNED_SHARE,
        least=LEAST_NOISE,
        delta=DELTA,
        beside=beside,
    )
    return TrainingPlan(
        sampling_rate=profile.sampling_rate,
        noise_multiplier=noise,
        clip_norm=profile.clip_norm,
        steps=profile.steps,
        windows_per_unit=profile.windows_per_unit,
        window=profile.window,
        learning_rate=profile.learning_rate,
        optimiser="sgd",
        delta=DELTA,
        expected_units=profile.expected_units,
    )
