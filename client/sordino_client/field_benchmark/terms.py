"""What the field's federations are founded on: the profile's plan with the noise that its rounds can afford."""

from __future__ import annotations

from sordino_client.federation_benchmark.federation import LEAST_NOISE, Terms
from sordino_client.field_benchmark.profile import PLANNED_SHARE, FieldProfile
from sordino_platform.charter import FloorTerms, PrivacyPolicy
from sordino_platform.demo.world import DELTA
from sordino_platform.suggested import affordable_noise
from sordino_privacy.dpsgd import TrainingPlan

# A member whose fellows all collude with the coordinator is protected by its own share alone. The benchmark's members
# agree to whatever that is: the figure is reported.
AGREED_IF_OTHERS_COLLUDE = 100_000.0


def floors_of(members: int) -> FloorTerms:
    """Of so many members a fifth may collude and a sixth may drop out; the rest carry the noise among them."""
    corrupt = FloorTerms().as_secagg().corrupt(members)
    honest = members - corrupt - members // 6
    return FloorTerms(cohort=corrupt + honest, honest=honest, organisations=3)


def terms_within(profile: FieldProfile, epsilon: float) -> Terms:
    """The federation at a budget of `epsilon`, its noise added in shares."""
    schedule = profile.schedule(epsilon)
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
        plan=_plan(profile, epsilon, rounds=schedule.rounds),
        rounds=schedule.rounds,
        optimiser=schedule.optimiser,
        windows_kept=profile.windows_kept,
    )


def plan_alone(profile: FieldProfile, epsilon: float) -> TrainingPlan:
    """The plan of a member that trains by itself: all the noise is its own."""
    return _plan(profile, epsilon, rounds=profile.alone.rounds)


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
