"""What the field's federations are founded on: the profile's plan with the noise that its rounds can afford."""

from __future__ import annotations

from sordino_client.federation_benchmark.federation import LEAST_NOISE, Terms
from sordino_client.field_benchmark.profile import PLANNED_SHARE, FieldProfile
from sordino_platform.charter import PrivacyPolicy
from sordino_platform.demo.world import DELTA
from sordino_platform.suggested import affordable_noise
from sordino_privacy.dpsgd import TrainingPlan


def terms_within(profile: FieldProfile, epsilon: float) -> Terms:
    """The federation at a budget of `epsilon`."""
    schedule = profile.schedule(epsilon)
    return Terms(
        parties=profile.training,
        model=profile.model,
        privacy=PrivacyPolicy(largest_epsilon=epsilon, smallest_noise_multiplier=LEAST_NOISE),
        plan=_plan(profile, epsilon, rounds=schedule.rounds),
        rounds=schedule.rounds,
        optimiser=schedule.optimiser,
        windows_kept=profile.windows_kept,
    )


def plan_alone(profile: FieldProfile, epsilon: float) -> TrainingPlan:
    """The plan of a member that trains by itself: the scarce schedule, and all the noise is its own."""
    return _plan(profile, epsilon, rounds=profile.scarce.rounds)


def _plan(profile: FieldProfile, epsilon: float, *, rounds: int) -> TrainingPlan:
    noise = affordable_noise(
        profile.sampling_rate, rounds, within=epsilon * PLANNED_SHARE, least=LEAST_NOISE, delta=DELTA
    )
    return TrainingPlan(
        sampling_rate=profile.sampling_rate,
        noise_multiplier=noise,
        clip_norm=profile.clip_norm,
        steps=1,
        windows_per_unit=profile.windows_per_unit,
        window=profile.window,
        learning_rate=profile.learning_rate,
        optimiser="sgd",
        delta=DELTA,
        expected_units=profile.expected_units,
    )
