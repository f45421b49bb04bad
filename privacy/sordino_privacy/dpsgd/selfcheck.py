"""The check before the engine may see data: its sums against brute force, on random windows.

A wrong per-sample gradient goes unnoticed. Training still converges, the noise is still added, but the guarantee is
gone: Opacus' hooks on a functionally tied weight were wrong by 21 %, and its ghost clipping let 2.4 times the clip
through. So the engine is checked on the same model that it will train.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sordino_privacy.dpsgd.gradients import UnitGradients, WindowLosses, trainable_parameters

TOLERANCE = 1e-4
# A wrong rule is off by a fifth or more (Opacus, above); bfloat16 products by a few thousandths.
COARSE = 5e-2


class SelfCheckError(RuntimeError):
    """The engine is wrong on this model. Nothing may be trained with it."""


def brute_force(model: nn.Module, window_losses: WindowLosses, windows: Tensor) -> Tensor:
    """One unit's gradient by plain autograd, flat float32. Raises SelfCheckError if a parameter is not used."""
    parameters = trainable_parameters(model)
    loss = window_losses(model, windows).mean()
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    if any(gradient is None for gradient in gradients):
        raise SelfCheckError(
            "a trainable parameter takes no part in the loss: it would receive noise for nothing"
        )
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def self_check(
    model: nn.Module,
    window_losses: WindowLosses,
    mode: UnitGradients,
    probes: Sequence[Tensor],
    *,
    tolerance: float = TOLERANCE,
) -> None:
    """Raises SelfCheckError unless `mode` agrees with brute force on `probes` (random units), clipped and unclipped.

    Checked: the sum of clipped gradients (each probe alone, and all together), every contribution's norm at most
    `clip_norm * (1 + 1e-4)`, no trainable parameter left out, no `.grad` left behind. `tolerance` is how far, relative
    to its length, a sum may be from brute force: more where the model computes in bfloat16, whose products depend on
    how many rows are computed together (COARSE). The clip is exact in any precision.
    """
    gradients = [brute_force(model, window_losses, windows) for windows in probes]
    norms = [_norm(gradient) for gradient in gradients]
    if not all(math.isfinite(norm) and norm > 0 for norm in norms):
        raise SelfCheckError("the model's gradient on random windows is zero or not finite")
    total, want = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])
    # One bound that clips every probe, and one that clips none.
    for clip_norm in (0.5 * min(norms), 2.0 * max(norms)):
        for group in (*((index,) for index in range(len(probes))), tuple(range(len(probes)))):
            total.zero_()
            mode.add([probes[index] for index in group], clip_norm, total)
            want.zero_()
            for index in group:
                want.add_(gradients[index], alpha=min(1.0, clip_norm / norms[index]))
            if len(group) == 1 and _norm(total) > clip_norm * (1 + TOLERANCE):
                raise SelfCheckError("one unit contributed more than the clip allows")
            scale = _norm(want)
            if _norm(want.sub_(total)) > tolerance * scale:
                raise SelfCheckError("the engine's clipped sum differs from brute force on this model")
    if any(p.grad is not None for p in model.parameters()):
        raise SelfCheckError("the engine left a gradient behind: it would bypass clip and noise")


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector.cpu(), dtype=torch.float64))
