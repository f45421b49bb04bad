"""The only file that uses Opacus: its optimiser is our base class, its hooks are our oracle, its accountant is our
check.

Kept from Opacus (1.6): `DPOptimizer`'s contract (`summed_grad` in, noise, public scale, `step_hook`, then the wrapped
optimiser), `GradSampleModule`'s per-sample gradients, and the RDP accountant. Replaced, each because of a fault that we
reproduced: the divisor (`int(N * q)` depends on the private N; ours is the plan's constant), the noise (a statistical
generator, or torchcsprng, which has no wheel), the handling of an empty batch and of a sample that is not finite.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from opacus.accountants import RDPAccountant
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn

from sordino_privacy.dpsgd.gradients import (
    Clipped,
    FlatVector,
    WindowLosses,
    clip_factor,
    summary,
    trainable_parameters,
)
from sordino_privacy.dpsgd.noise import add_noise
from sordino_privacy.keystream import Keystream
from sordino_privacy.shared_noise import Integers, SharedNoise
from sordino_privacy.training_plan import ADAM_BETAS, TrainingPlan


class PrivateOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus ships no types
    """Opacus' `DPOptimizer` fed with one flat sum of clipped unit gradients.

    `total` is that sum, zeroed after every step. `step()` releases it: projection onto the ball of radius
    `clip_norm * expected_units`, noise of standard deviation `noise_multiplier * clip_norm`, division by the public
    `expected_units`, then the wrapped optimiser. The projection moves no two sums apart, so every unit's influence
    stays within the clip; it also lets others bound what an honest member can send. A step without any unit releases
    noise too, because leaving it out would reveal that no unit was sampled.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], plan: TrainingPlan, keystream: Keystream) -> None:
        inner: torch.optim.Optimizer
        if plan.optimiser == "adam":
            inner = torch.optim.Adam(parameters, lr=plan.learning_rate, betas=ADAM_BETAS)
        else:
            inner = torch.optim.SGD(parameters, lr=plan.learning_rate)
        super().__init__(
            inner,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip_norm,
            expected_batch_size=plan.expected_units,
            loss_reduction="mean",
        )
        self._keystream = keystream
        self._parameters = list(parameters)
        self._flat = FlatVector(self._parameters)
        self.total: Tensor = self._flat.vector
        for p, view in zip(self._parameters, self._flat.views, strict=True):
            p.summed_grad = view  # type: ignore[attr-defined]

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """Turns the sum into the released gradient. Opacus clips here; our sum is clipped already."""
        self.add_noise()
        self.scale_grad()
        if self.step_hook:
            self.step_hook(self)
        return True

    def project(self) -> None:
        """Moves the sum onto the ball of radius `clip_norm * expected_units`."""
        longest = float(self.expected_batch_size) * float(self.max_grad_norm)
        length = float(torch.linalg.vector_norm(self.total.cpu(), dtype=torch.float64))
        if length > longest:
            self.total.mul_(longest / length)

    def release(self, noise: SharedNoise) -> Integers:
        """The step's direction, the negative sum in units of the clip, as integers with a share of `noise`; int64 in
        the order of the parameters. The parameters do not change, and the sum is set to zero."""
        self.project()
        vector = self.total.cpu().numpy() / -float(self.max_grad_norm)
        self.zero_grad()
        return noise.release(vector, self._keystream)

    def add_noise(self) -> None:
        self.project()
        deviation = float(self.noise_multiplier) * float(self.max_grad_norm)
        add_noise(self.total, deviation, 1.0, self._keystream, self.total)
        for p, view in zip(self._parameters, self._flat.views, strict=True):
            p.grad = view

    def scale_grad(self) -> None:
        self.total.div_(float(self.expected_batch_size))

    def step(self, closure: Callable[[], float] | None = None) -> None:
        if closure is not None:
            raise TypeError("a private step takes no closure: gradients enter through `total` only")
        self.pre_step()
        self.original_optimizer.step()
        self.zero_grad()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.total.zero_()
        for p in self._parameters:
            p.grad = None


class HookGradients:
    """The gradient modes of Opacus itself, "hooks" and "functorch": the oracle of the tests and the benchmark.

    All units of a batch pass at once. Opacus' hooks are on the model only while a batch is in progress. Raises
    TypeError where a parameter got no per-sample gradient, or one of another shape than its own with a row per window.
    """

    def __init__(self, model: nn.Module, window_losses: WindowLosses, *, functorch: bool = False) -> None:
        self._model = model
        self._functorch = functorch
        self._parameters = trainable_parameters(model)
        self._window_losses = window_losses

    def add(self, units: Sequence[Tensor], clip_norm: float, total: Tensor) -> Clipped:
        if not units:
            return summary([], [], clip_norm)
        module = GradSampleModule(
            self._model, loss_reduction="sum", strict=False, force_functorch=self._functorch
        )
        try:
            with warnings.catch_warnings():
                # Opacus hooks modules whose inputs (token numbers) carry no gradient, and torch warns about it.
                warnings.simplefilter("ignore", UserWarning)
                return self._clip(module, units, clip_norm, total)
        finally:
            module.zero_grad(set_to_none=True)
            module.to_standard_module()

    def _clip(self, module: nn.Module, units: Sequence[Tensor], clip_norm: float, total: Tensor) -> Clipped:
        owner = torch.repeat_interleave(torch.tensor([len(windows) for windows in units]))
        rows = self._window_losses(module, torch.cat(list(units)))
        weights = 1.0 / torch.bincount(owner).float()
        (rows * weights[owner]).sum().backward()  # type: ignore[no-untyped-call]
        samples = []
        for p in self._parameters:
            sample = getattr(p, "grad_sample", None)
            if not isinstance(sample, Tensor) or sample.shape != (len(owner), *p.shape):
                raise TypeError("Opacus gave a trainable parameter no per-sample gradient")
            samples.append(torch.zeros(len(units), p.numel()).index_add_(0, owner, sample.flatten(1)))
        norms = torch.stack([torch.linalg.vector_norm(s, dim=1, dtype=torch.float64) for s in samples]).norm(
            dim=0
        )
        factors = torch.tensor([clip_factor(float(norm), clip_norm) for norm in norms])
        for sample in samples:
            sample[~norms.isfinite()] = 0.0
        total.add_(torch.cat([factors @ sample for sample in samples]))
        losses = torch.zeros(len(units)).index_add_(0, owner, rows.detach() * weights[owner])
        return summary(losses.tolist(), norms.tolist(), clip_norm)


StockMode = Literal["hooks", "functorch", "ghost"]


def stock_step(
    mode: StockMode, model: nn.Module, window_losses: WindowLosses, plan: TrainingPlan
) -> Callable[[Tensor], None]:
    """A training step of unmodified Opacus on windows `(rows, ...)`, one unit each: the baseline of the benchmark.

    Opacus' own clipping, noise and optimiser. No private data may be trained on with it, for the reasons above.
    """
    settings = {
        "noise_multiplier": plan.noise_multiplier,
        "max_grad_norm": plan.clip_norm,
        "expected_batch_size": plan.expected_units,
    }
    inner = torch.optim.SGD(trainable_parameters(model), lr=plan.learning_rate)
    if mode == "ghost":
        module = GradSampleModuleFastGradientClipping(
            model, loss_reduction="sum", strict=False, max_grad_norm=plan.clip_norm, use_ghost_clipping=True
        )
        optimizer = DPOptimizerFastGradientClipping(inner, **settings)
    else:
        module = GradSampleModule(
            model, loss_reduction="sum", strict=False, force_functorch=mode == "functorch"
        )
        optimizer = DPOptimizer(inner, **settings)

    def step(windows: Tensor) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            losses = window_losses(module, windows)
            if mode == "ghost":
                DPTensorFastGradientClipping(module, optimizer, losses, loss_reduction="sum").backward()
            else:
                losses.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def rdp_epsilon(events: Sequence[tuple[float, float, int]], delta: float) -> float:
    """Opacus' Renyi accountant on `(sampling_rate, noise_multiplier, steps)`: looser than PLD, never below it."""
    accountant = RDPAccountant()
    accountant.history = [(noise, rate, steps) for rate, noise, steps in events]
    return float(accountant.get_epsilon(delta=delta))
