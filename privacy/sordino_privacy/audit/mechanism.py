"""The mechanism audit: measures noise, clip, sampler and divisor of the engine that trains. Seconds, no data.

A black-box attack is weak: with noise ten times too small, an attack on the trained model found nothing (measured). So
each part is measured directly. The *Dirac* model has one parameter per canary. The gradient of a canary's unit is
nonzero only at that parameter, so its contribution to a release can be read off directly, for thousands of canaries at
a time.

    noise_scale         standard deviation of empty releases over `noise_multiplier * clip_norm / expected_units`
    noise_repetition    correlation of two releases' noise, and of neighbouring coordinates
    clip_norm           the largest contribution of a unit with a huge gradient, over the clip
    clip_error          distance from brute force on the real model, relative
    sampling_rate       units per step over `sampling_rate * units`
    sampling_variance   variance of units per step over the binomial's (0 for batches of a fixed size)
    canary_signal       what a clipped canary adds to a release, over `clip_norm / expected_units`
    canary_epsilon      an attacker's epsilon lower bound on 8,000 canaries, at most the claimed epsilon

Statistical ranges are 5 standard errors wide: a sound engine fails one audit in about 200,000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.audit.canaries import judge_canaries
from sordino_privacy.audit.report import AuditCheck, AuditReport
from sordino_privacy.dpsgd.engine import PrivateTraining
from sordino_privacy.dpsgd.gradients import WindowLosses
from sordino_privacy.dpsgd.selfcheck import brute_force
from sordino_privacy.training_plan import TrainingPlan

# Makes the engine under audit. The product's own is `PrivateTraining` itself.
Engine = Callable[[nn.Module, TrainingPlan, WindowLosses], PrivateTraining]

CANARIES = 8000
NOISE_COORDINATES = 1 << 20
SAMPLED_UNITS, SAMPLED_STEPS = 200, 400
_ERRORS = 5.0


class Dirac(nn.Module):
    """One parameter per canary. The gradient of canary `i` is `size` at coordinate i and 0 elsewhere."""

    def __init__(self, coordinates: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(coordinates, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.weight)


def canary_losses(size: float) -> WindowLosses:
    """The losses of canaries. A canary is a window of one index."""
    return lambda model, windows: size * model(windows).view(len(windows), -1).sum(dim=1)


def audit_mechanism(
    engine: Engine,
    plan: TrainingPlan,
    model: nn.Module,
    window_losses: WindowLosses,
    probes: Sequence[Tensor],
) -> AuditReport:
    """Audits `engine` under `plan`. `model` (not trained), its losses and `probes` (random units) are the real ones."""
    plan = replace(plan, optimiser="sgd", learning_rate=1.0)
    findings = (
        *_noise(engine, plan),
        *_clip(engine, plan, model, window_losses, probes),
        *_sampler(engine, plan),
        *_canaries(engine, plan),
    )
    return AuditReport(findings=findings)


def _noise(engine: Engine, plan: TrainingPlan) -> list[AuditCheck]:
    model = Dirac(NOISE_COORDINATES)
    training = engine(model, plan, canary_losses(1.0))
    first = _release(model, training, []) / plan.noise_deviation()
    second = _release(model, training, []) / plan.noise_deviation()
    n = NOISE_COORDINATES
    scale = float(torch.cat((first, second)).square().mean().sqrt())
    same = max(abs(_correlation(first, second)), abs(_correlation(first[:-1], first[1:])))
    return [
        _around(
            "noise_scale", "noise of empty releases over what is claimed", scale, 1.0, 1 / math.sqrt(4 * n)
        ),
        AuditCheck(
            name="noise_repetition",
            what="largest correlation between releases and between neighbouring coordinates",
            measured=same,
            low=0.0,
            high=_ERRORS / math.sqrt(n),
        ),
    ]


def _clip(
    engine: Engine,
    plan: TrainingPlan,
    model: nn.Module,
    window_losses: WindowLosses,
    probes: Sequence[Tensor],
) -> list[AuditCheck]:
    gradients = [brute_force(model, window_losses, probe) for probe in probes]
    # Half of the shortest gradient: every probe is cut.
    clip_norm = 0.5 * min(float(gradient.norm()) for gradient in gradients)
    training = engine(model, replace(plan, clip_norm=clip_norm), window_losses)
    longest = worst = 0.0
    for probe, gradient in zip(probes, gradients, strict=True):
        found = training.clipped_sum([probe]).double()
        want = gradient.double() * (clip_norm / float(gradient.norm()))
        longest = max(longest, float(found.norm()) / clip_norm)
        worst = max(worst, float((found - want).norm()) / clip_norm)
    return [
        AuditCheck(
            name="clip_norm",
            what="the longest contribution of a unit over the clip",
            measured=longest,
            low=0.999,
            high=1.0001,
        ),
        AuditCheck(
            name="clip_error",
            what="distance from brute force on this model",
            measured=worst,
            low=0.0,
            high=1e-4,
        ),
    ]


def _sampler(engine: Engine, plan: TrainingPlan) -> list[AuditCheck]:
    rate = min(plan.sampling_rate, 0.5)
    plan = replace(plan, sampling_rate=rate, steps=SAMPLED_STEPS)
    training = engine(Dirac(SAMPLED_UNITS), plan, canary_losses(1.0))
    sizes: list[int] = []
    units = [torch.tensor([[index]]) for index in range(SAMPLED_UNITS)]
    training.run(units, on_step=lambda record: sizes.append(len(record.clipped.losses)))
    expected = rate * SAMPLED_UNITS
    variance = expected * (1 - rate)
    counts = np.array(sizes, dtype=np.float64)
    # The variance of a sample variance, with the binomial's fourth moment.
    kurtosis = 3 + (1 - 6 * rate * (1 - rate)) / variance
    return [
        _around(
            "sampling_rate",
            "units per step over the claimed rate",
            float(counts.mean()) / expected,
            1.0,
            math.sqrt(variance / SAMPLED_STEPS) / expected,
        ),
        _around(
            "sampling_variance",
            "variance of units per step over a Poisson sample's",
            float(counts.var(ddof=1)) / variance,
            1.0,
            math.sqrt((kurtosis - 1) / SAMPLED_STEPS),
        ),
    ]


def _canaries(engine: Engine, plan: TrainingPlan) -> list[AuditCheck]:
    # Every canary's unit takes part (rate 1), with a gradient ten times longer than the clip. `expected_units` is at
    # least the number of canaries, so that their sum is not projected and each canary counts in full.
    plan = replace(plan, sampling_rate=1.0, steps=1, expected_units=max(plan.expected_units, CANARIES))
    model = Dirac(CANARIES)
    training = engine(model, plan, canary_losses(10 * plan.clip_norm))
    inserted = np.random.default_rng().random(CANARIES) < 0.5
    units = [torch.tensor([[int(index)]]) for index in np.flatnonzero(inserted)]
    # A release is the negative gradient at learning rate 1.
    released = -_release(model, training, units).double().numpy()
    scores = released * plan.expected_units / plan.clip_norm
    ins, outs = scores[inserted], scores[~inserted]
    signal = float(ins.mean() - outs.mean())
    claimed = epsilon([SampledGaussian.of(plan)], plan.delta).value
    result = judge_canaries(scores, inserted, delta=plan.delta)
    error = plan.noise_multiplier * math.sqrt(1 / len(ins) + 1 / len(outs))
    return [
        _around("canary_signal", "what a canary adds to a release over the clip", signal, 1.0, error),
        AuditCheck(
            name="canary_epsilon",
            what=f"epsilon that an attacker proves on {CANARIES} canaries; the claim is the upper end",
            measured=result.lower,
            low=0.0,
            high=claimed,
        ),
    ]


def _release(model: Dirac, training: PrivateTraining, units: Sequence[Tensor]) -> Tensor:
    before = model.weight.detach().clone()
    training.step(units)
    return (model.weight.detach() - before).view(-1)


def _around(name: str, what: str, measured: float, expected: float, error: float) -> AuditCheck:
    return AuditCheck(
        name=name,
        what=what,
        measured=measured,
        low=expected - _ERRORS * error,
        high=expected + _ERRORS * error,
    )


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a, b)))[0, 1])
