"""`PrivateTraining`: the loop of one round. Sample units, clip each once, add noise, step. Nothing else touches data.

    training = PrivateTraining(model, plan, window_losses=losses, keystream=Keystream.from_system())
    training.self_check(random_units)
    record = training.run(units)

`units` are tensors of shape `(windows, ...)`. `window_losses(model, windows)` gives one loss per window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sordino_privacy.dpsgd.gradients import Clipped, UnitGradients, WindowLosses, trainable_parameters
from sordino_privacy.dpsgd.one_pass import BUFFER, TOKENS, OnePassGradients
from sordino_privacy.dpsgd.opacus_layer import HookGradients, PrivateOptimizer
from sordino_privacy.dpsgd.parallel import ParallelGradients
from sordino_privacy.dpsgd.per_unit import PerUnitGradients
from sordino_privacy.dpsgd.sampling import choose, poisson_sample
from sordino_privacy.dpsgd.selfcheck import TOLERANCE, self_check
from sordino_privacy.keystream import Keystream
from sordino_privacy.shared_noise import Integers, SharedNoise
from sordino_privacy.training_plan import TrainingPlan

Mode = Literal["one-pass", "per-unit", "opacus-hooks", "opacus-functorch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRoundReport:
    """What a round did. It depends on the data: only the member itself may see it, and it is never sent.

    mean_loss      nats per token, mean over the units that were read; NaN where none was
    clipped_share  share of units whose gradient was longer than the clip, in [0, 1]
    units          unit contributions over all steps; `windows` and `nonfinite` likewise
    """

    mean_loss: float
    clipped_share: float
    units: int
    windows: int
    nonfinite: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of a round, for the member's own progress display."""

    step: int
    windows: int
    clipped: Clipped


@dataclass(frozen=True, slots=True, kw_only=True)
class PassBounds:
    """What one pass of the mode "one-pass" may hold, to bound its memory: bytes of per-unit gradients, and tokens. A
    pass always holds at least one unit.
    """

    buffer: int = BUFFER
    tokens: int = TOKENS


def gradients_for(
    mode: Mode,
    model: nn.Module,
    window_losses: WindowLosses,
    *,
    workers: int = 1,
    bounds: PassBounds | None = None,
) -> UnitGradients:
    """The gradient mode of this name. The self-check decides whether it is right for a model.

    Only "one-pass" can have several workers: the others keep gradients in the parameters, which the workers share.
    """
    bounds = bounds or PassBounds()

    def one_pass() -> OnePassGradients:
        return OnePassGradients(model, window_losses, buffer=bounds.buffer, tokens=bounds.tokens)

    if workers > 1:
        if mode != "one-pass":
            raise ValueError(f"the gradient mode {mode!r} has one worker")
        return ParallelGradients([one_pass() for _ in range(workers)])
    match mode:
        case "one-pass":
            return one_pass()
        case "per-unit":
            return PerUnitGradients(model, window_losses)
        case _:
            return HookGradients(model, window_losses, functorch=mode == "opacus-functorch")


def _record(step: int, sample: Sequence[Tensor], outcome: Clipped) -> StepRecord:
    return StepRecord(step=step, windows=sum(len(unit) for unit in sample), clipped=outcome)


def _summed(steps: Sequence[StepRecord]) -> PrivateRoundReport:
    losses = [loss for step in steps for loss in step.clipped.losses if math.isfinite(loss)]
    seen = len(losses)
    return PrivateRoundReport(
        mean_loss=sum(losses) / seen if seen else math.nan,
        clipped_share=sum(step.clipped.clipped for step in steps) / seen if seen else 0.0,
        units=seen,
        windows=sum(step.windows for step in steps),
        nonfinite=sum(step.clipped.nonfinite for step in steps),
    )


class PrivateTraining:
    """DP-SGD or DP-Adam over Poisson-sampled units with one clip per unit."""

    def __init__(
        self,
        model: nn.Module,
        plan: TrainingPlan,
        *,
        window_losses: WindowLosses,
        keystream: Keystream,
        mode: Mode = "one-pass",
        workers: int = 1,
        bounds: PassBounds | None = None,
    ) -> None:
        """`bounds` of each worker's passes. The model may be on any device; units are copied to that device."""
        self._model = model.train()
        self._plan = plan
        self._window_losses = window_losses
        self._keystream = keystream
        self._gradients = gradients_for(mode, model, window_losses, workers=workers, bounds=bounds)
        parameters = trainable_parameters(model)
        self._device = parameters[0].device
        self._optimizer = PrivateOptimizer(parameters, plan, keystream)

    @property
    def model(self) -> nn.Module:
        """The model that is trained, in place."""
        return self._model

    def self_check(self, probes: Sequence[Tensor], *, tolerance: float = TOLERANCE) -> None:
        """Compares the engine with brute force on random units. Raises SelfCheckError."""
        there = [probe.to(self._device) for probe in probes]
        self_check(self._model, self._window_losses, self._gradients, there, tolerance=tolerance)

    def run(
        self, units: Sequence[Tensor], *, on_step: Callable[[StepRecord], None] = lambda record: None
    ) -> PrivateRoundReport:
        """All steps of the plan over `units`, changing the model in place."""
        steps = []
        for step in range(self._plan.steps):
            sample = self._sample(units)
            outcome = self.step(sample)
            steps.append(_record(step + 1, sample, outcome))
            on_step(steps[-1])
        return _summed(steps)

    def run_shared(
        self,
        units: Sequence[Tensor],
        noise: SharedNoise,
        *,
        on_step: Callable[[StepRecord], None] = lambda record: None,
    ) -> tuple[Integers, PrivateRoundReport]:
        """The one step of a plan whose noise is added in shares: the step's direction with this member's share, int64
        in the order of `trainable_parameters`, one `noise.step` of the clip each. The model stays as it is.

        Raises ValueError for a plan of several steps, or of another optimiser than SGD: what comes after a step would
        depend on noise of which this member holds only a share.
        """
        if self._plan.steps != 1 or self._plan.optimiser != "sgd":
            raise ValueError("noise in shares is for one step of SGD")
        sample = self._sample(units)
        integers, outcome = self.release(sample, noise)
        record = _record(1, sample, outcome)
        on_step(record)
        return integers, _summed([record])

    def release(self, sample: Sequence[Tensor], noise: SharedNoise) -> tuple[Integers, Clipped]:
        """The direction of one step on exactly these units, which may be none, with a share of `noise`."""
        outcome = self._gradients.add(sample, self._plan.clip_norm, self._optimizer.total)
        return self._optimizer.release(noise), outcome

    def step(self, sample: Sequence[Tensor]) -> Clipped:
        """One noisy step on exactly these units, which may be none."""
        there = [unit.to(self._device) for unit in sample]
        outcome = self._gradients.add(there, self._plan.clip_norm, self._optimizer.total)
        self._optimizer.step()
        return outcome

    def clipped_sum(self, units: Sequence[Tensor]) -> Tensor:
        """The sum of these units' clipped gradients, without noise: for the audit. Never to be released."""
        total = torch.zeros_like(self._optimizer.total)
        self._gradients.add([unit.to(self._device) for unit in units], self._plan.clip_norm, total)
        return total

    def _sample(self, units: Sequence[Tensor]) -> list[Tensor]:
        plan = self._plan
        sample = []
        for index in poisson_sample(self._keystream, len(units), plan.sampling_rate):
            unit = units[int(index)]
            chosen = choose(self._keystream, len(unit), plan.windows_per_unit)
            sample.append(unit if len(chosen) == len(unit) else unit[torch.from_numpy(chosen)])
        return sample
