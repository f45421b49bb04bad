"""One backward pass per unit, gradients landing in views of one flat vector: right for any architecture.

Autograd itself sums over every use of a parameter (tied weights, broadcasts, several calls), so no rule per layer is
needed and none can be wrong. The flat vector makes the norm one reduction and the clipped sum one multiply-add.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sordino_privacy.dpsgd.gradients import (
    Clipped,
    FlatVector,
    WindowLosses,
    clip_factor,
    summary,
    trainable_parameters,
)


class PerUnitGradients:
    """The gradient mode "per-unit". See `gradients.UnitGradients`."""

    def __init__(self, model: nn.Module, window_losses: WindowLosses) -> None:
        self._model = model
        self._window_losses = window_losses
        self._parameters = trainable_parameters(model)
        self._flat = FlatVector(self._parameters)

    def add(self, units: Sequence[Tensor], clip_norm: float, total: Tensor) -> Clipped:
        losses: list[float] = []
        norms: list[float] = []
        try:
            for windows in units:
                loss, norm = self._gradient(windows)
                factor = clip_factor(norm, clip_norm)
                if factor:
                    total.add_(self._flat.vector, alpha=factor)
                losses.append(loss)
                norms.append(norm)
        finally:
            for p in self._parameters:
                p.grad = None
        return summary(losses, norms, clip_norm)

    def _gradient(self, windows: Tensor) -> tuple[float, float]:
        self._flat.vector.zero_()
        for p, view in zip(self._parameters, self._flat.views, strict=True):
            p.grad = view
        loss = self._window_losses(self._model, windows).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        for p, view in zip(self._parameters, self._flat.views, strict=True):
            if p.grad is None or p.grad.data_ptr() != view.data_ptr():
                raise RuntimeError("autograd replaced a gradient buffer: a gradient would escape the clip")
        # In float64: the square of a large float32 gradient overflows, and a sum of millions of squares drifts.
        return float(loss.detach()), float(
            torch.linalg.vector_norm(self._flat.vector.cpu(), dtype=torch.float64)
        )
