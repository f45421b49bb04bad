"""Audits noise in shares: what one member adds, and what a sum of the fewest honest members holds.

Runs exactly as many members as the floor of a sum asks for, each with an engine (or a count) of its own. A member that
adds half a share, or none, is then found out: there is no spare member whose noise makes up for it.

    shares_each       standard deviation of a member's empty release over its share, of the member that is furthest off
    shares_floor      standard deviation of the sum of as many empty releases as the floor asks for, over the claim
    shares_repetition correlation of two members' noise, and of one member's from one release to the next
    shares_signal     what a canary adds to the sum, over the clip
    shares_epsilon    epsilon that an attacker proves on canaries from such a sum; at most the epsilon that is claimed
                      while the federation holds
    shares_alone      epsilon that an attacker who knows every other member's share proves; at most the epsilon that is
                      claimed if all others collude

The same checks exist for a count, named `counts_shares_...`. Statistical ranges are 6 standard errors wide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.audit.canaries import CanaryResult, Scores, judge_canaries
from sordino_privacy.audit.mechanism import CANARIES, Dirac, Engine, canary_losses
from sordino_privacy.audit.one_run import mean_losses
from sordino_privacy.audit.report import AuditCheck
from sordino_privacy.counts.cells import Cells
from sordino_privacy.counts.counting import counted, noised_in_shares
from sordino_privacy.counts.plan import CountPlan
from sordino_privacy.dpsgd.gradients import WindowLosses, trainable_parameters
from sordino_privacy.keystream import Keystream
from sordino_privacy.shared_noise import Integers, SharedNoise
from sordino_privacy.training_plan import TrainingPlan

NOISE_COORDINATES = 1 << 18
COUNT_CANARIES = 256
_ERRORS = 6.0

# One member: the canaries that it holds (by number) to the integers that it releases.
Release = Callable[[Sequence[int]], Integers]
# A member's units (the cells of each) to the integers of its count.
CountRelease = Callable[[Sequence[Cells], CountPlan, SharedNoise], Integers]


def audit_shares(engines: Sequence[Engine], plan: TrainingPlan) -> list[AuditCheck]:
    """Audits a sum of `len(engines)` members, the floor of its charter. Seconds; reads and keeps nothing."""
    plan = replace(plan, optimiser="sgd", learning_rate=1.0, steps=1, sampling_rate=1.0)
    plan = replace(plan, expected_units=max(plan.expected_units, CANARIES))

    def members(noise: SharedNoise) -> list[Release]:
        return [_training_member(engine, plan, noise) for engine in engines]

    quiet, read = (
        _noise(plan.noise_multiplier, len(engines), size) for size in (NOISE_COORDINATES, CANARIES)
    )
    cells = np.arange(CANARIES)[:, None]
    return [
        *_of_noise("shares", members(quiet), quiet),
        *_of_canaries("shares", members(read), read, cells, size=1.0, delta=plan.delta),
    ]


def audit_shared_counts(releases: Sequence[CountRelease], plan: CountPlan) -> list[AuditCheck]:
    """The same of a count: a canary is a unit with as many cells of its own as a unit may have."""
    noise = _noise(plan.noise_multiplier, len(releases), plan.cells)
    width = min(2 * plan.phrases, plan.cells // COUNT_CANARIES)
    cells = np.random.default_rng().permutation(plan.cells)[: COUNT_CANARIES * width]
    cells = np.sort(cells.reshape(COUNT_CANARIES, width), axis=1)

    def member(release: CountRelease) -> Release:
        return lambda canaries: release([cells[canary] for canary in canaries], plan, noise)

    members = [member(release) for release in releases]
    return [
        *_of_noise("counts_shares", members, noise),
        *_of_canaries("counts_shares", members, noise, cells, size=1 / plan.sensitivity(), delta=plan.delta),
    ]


def released(units: Sequence[Cells], plan: CountPlan, noise: SharedNoise) -> Integers:
    """What a member of this installation releases in a count."""
    return noised_in_shares(counted(units, plan), plan, noise, Keystream.from_system())


def audit_shared_run(
    engines: Sequence[Engine],
    plan: TrainingPlan,
    model: nn.Module,
    window_losses: WindowLosses,
    canaries: Sequence[torch.Tensor],
    keystream: Keystream,
) -> tuple[CanaryResult, Scores, npt.NDArray[np.bool_], float]:
    """Attacks a whole training with noise in shares: `plan.steps` rounds of one step each, with exactly the floor of
    members.

    Trains `model` in place on a random half of `canaries`, spread over the members; each round moves it by the sum of
    all members' steps. Returns the verdict, the scores (by how much each canary's loss fell), which canaries were in,
    and the epsilon that is claimed for the model while the federation holds.
    """
    parameters = trainable_parameters(model)
    noise = _noise(plan.noise_multiplier, len(engines), sum(p.numel() for p in parameters))
    once = replace(plan, steps=1, optimiser="sgd")
    trainings = [engine(model, once, window_losses) for engine in engines]
    inserted = (keystream.words(len(canaries)) & np.uint64(1)).astype(np.bool_)
    chosen = [canary for canary, is_in in zip(canaries, inserted, strict=True) if is_in]
    before = mean_losses(model, window_losses, canaries)
    ends = np.cumsum([parameter.numel() for parameter in parameters])[:-1]
    step = once.learning_rate * once.clip_norm / once.expected_units * noise.step
    for _ in range(plan.steps):
        sums = [
            training.run_shared(chosen[place :: len(trainings)], noise)[0]
            for place, training in enumerate(trainings)
        ]
        pieces = np.split(np.sum(sums, axis=0) * step, ends)
        with torch.no_grad():
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.add_(torch.from_numpy(piece).view_as(parameter))
    scores = before - mean_losses(model, window_losses, canaries)
    claimed = epsilon([noise.event(sampling_rate=plan.sampling_rate, steps=plan.steps)], plan.delta).value
    return judge_canaries(scores, inserted, delta=plan.delta), scores, inserted, claimed


def _noise(multiplier: float, honest: int, dimension: int) -> SharedNoise:
    return SharedNoise(noise_multiplier=multiplier, honest=honest, members=honest, dimension=dimension)


def _training_member(engine: Engine, plan: TrainingPlan, noise: SharedNoise) -> Release:
    training = engine(Dirac(noise.dimension), plan, canary_losses(10 * plan.clip_norm))

    def release(canaries: Sequence[int]) -> Integers:
        # The step's direction is the negative sum.
        return np.negative(training.release([torch.tensor([[canary]]) for canary in canaries], noise)[0])

    return release


def _of_noise(prefix: str, members: Sequence[Release], noise: SharedNoise) -> list[AuditCheck]:
    drawn = [member([]).astype(np.float64) for member in members]
    again = members[0]([]).astype(np.float64)
    share, error = math.sqrt(noise.share_variance), 1 / math.sqrt(2 * noise.dimension)
    each = [float(one.std()) / share for one in drawn]
    whole = float(np.sum(drawn, axis=0).std()) / (share * math.sqrt(len(members)))
    pairs = [(drawn[0], again), *((drawn[at - 1], drawn[at]) for at in range(1, len(drawn)))]
    same = max(_correlation(*pair) for pair in pairs)
    return [
        AuditCheck(
            name=f"{prefix}_each",
            what="noise of one member's empty release over its share, the furthest off",
            measured=max(each, key=lambda one: abs(one - 1)),
            low=1 - _ERRORS * error,
            high=1 + _ERRORS * error,
        ),
        AuditCheck(
            name=f"{prefix}_floor",
            what=f"noise of a sum of {len(members)} members, the floor, over what is claimed",
            measured=whole,
            low=1 - _ERRORS * error,
            high=1 + _ERRORS * error,
        ),
        AuditCheck(
            name=f"{prefix}_repetition",
            what="largest correlation between two members' noise, and between releases",
            measured=same,
            low=0.0,
            high=_ERRORS / math.sqrt(noise.dimension),
        ),
    ]


def _of_canaries(
    prefix: str,
    members: Sequence[Release],
    noise: SharedNoise,
    cells: npt.NDArray[np.int64],
    *,
    size: float,
    delta: float,
) -> list[AuditCheck]:
    """The checks on canaries. `cells`: each canary's cells, `(canaries, width)`; it adds `size` units of sensitivity to
    each.
    """
    inserted = np.random.default_rng().random(len(cells)) < 0.5
    own = members[0](np.flatnonzero(inserted).tolist())
    total: Integers = np.sum([own, *(member([]) for member in members[1:])], axis=0)
    scores = (total * noise.step)[cells].mean(axis=1) / size
    ins, outs = scores[inserted], scores[~inserted]
    width = cells.shape[1]
    deviation = math.sqrt(len(members) * noise.share_variance) * noise.step / (size * math.sqrt(width))
    error = deviation * math.sqrt(1 / len(ins) + 1 / len(outs))

    def proven(released: Integers, event: SampledGaussian, *, name: str, who: str) -> AuditCheck:
        found = judge_canaries((released * noise.step)[cells].mean(axis=1), inserted, delta=delta)
        return AuditCheck(
            name=f"{prefix}_{name}",
            what=f"epsilon that {who} proves on {len(cells)} canaries; the claim is the upper end",
            measured=found.lower,
            low=0.0,
            high=epsilon([event], delta).value,
        )

    return [
        AuditCheck(
            name=f"{prefix}_signal",
            what="what a canary adds to a sum, over what it may",
            measured=float(ins.mean() - outs.mean()),
            low=1 - _ERRORS * error,
            high=1 + _ERRORS * error,
        ),
        proven(total, noise.event(sampling_rate=1.0), name="epsilon", who="who sees the sum of the floor"),
        proven(own, noise.event_alone(sampling_rate=1.0), name="alone", who="who knows all other shares"),
    ]


def _correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The absolute correlation of two releases, in [0, 1]; 1 if one of them has no noise at all."""
    deviations = float(one.std()) * float(other.std())
    return (
        abs(float(((one - one.mean()) * (other - other.mean())).mean()) / deviations) if deviations else 1.0
    )
