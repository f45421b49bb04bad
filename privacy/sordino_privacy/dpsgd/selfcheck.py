"""Before the engine may see data: its sums against brute force, on random windows.

A wrong per-sample gradient is silent. Training still converges, the noise is still added, and the guarantee is gone:
Opacus' hooks on a functionally tied weight were wrong by 21 %, its ghost clipping let 2.4 times the clip through. So
the engine proves itself on the very model it will train.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sordino_privacy.dpsgd.gradients import UnitGradients, WindowLosses, trainable_parameters

TOLERANCE = 1e-4


class SelfCheckError(RuntimeError):
    """The engine is wrong on this model. Nothing may be trained with it."""


def brute_force(model: nn.Module, window_losses: WindowLosses, windows: Tensor) -> Tensor:
    """One unit's gradient by plain autograd, float64, flat. Raises SelfCheckError where a parameter plays no part."""
    parameters = trainable_parameters(model)
    loss = window_losses(model, windows).mean()
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    if any(gradient is None for gradient in gradients):
        raise SelfCheckError(
            "a trainable parameter takes no part in the loss: it would receive noise for nothing"
        )
    return torch.cat([gradient.double().reshape(-1) for gradient in gradients])


def self_check(
    model: nn.Module, window_losses: WindowLosses, mode: UnitGradients, probes: Sequence[Tensor]
) -> None:
    """Raises SelfCheckError unless `mode` agrees with brute force on `probes` (random units), clipped and unclipped.

    Checked: the sum of clipped gradients (each probe alone, and all together), every contribution's norm at most
    `clip_norm * (1 + 1e-4)`, no trainable parameter left out, no `.grad` left behind.
    """
    gradients = [brute_force(model, window_losses, windows) for windows in probes]
    norms = [float(gradient.norm()) for gradient in gradients]
    if not all(math.isfinite(norm) and norm > 0 for norm in norms):
        raise SelfCheckError("the model's gradient on random windows is zero or not finite")
    # One bound that cuts every probe, one that cuts none.
    for clip_norm in (0.5 * min(norms), 2.0 * max(norms)):
        expected = [g * min(1.0, clip_norm / n) for g, n in zip(gradients, norms, strict=True)]
        groups = [[index] for index in range(len(probes))] + [list(range(len(probes)))]
        for group in groups:
            total = torch.zeros(gradients[0].numel())
            mode.add([probes[index] for index in group], clip_norm, total)
            want = sum((expected[index] for index in group), torch.zeros_like(gradients[0]))
            if float((total.double() - want).norm()) > TOLERANCE * float(want.norm()):
                raise SelfCheckError("the engine's clipped sum differs from brute force on this model")
            if len(group) == 1 and float(total.double().norm()) > clip_norm * (1 + TOLERANCE):
                raise SelfCheckError("one unit contributed more than the clip allows")
    if any(p.grad is not None for p in model.parameters()):
        raise SelfCheckError("the engine left a gradient behind: it would bypass clip and noise")
