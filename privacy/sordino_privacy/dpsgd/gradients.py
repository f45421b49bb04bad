"""What all gradient modes have in common: the flat vector, the clip, and what is known of a batch of units afterwards.

A mode turns units into one sum of clipped gradients. Every mode guarantees: each unit adds a vector of L2 norm at most
`clip_norm` (up to float32 rounding, 1e-4 relative, which the self-check asserts), for any gradient.

    gradient of a unit                what it adds
    norm <= clip_norm                 itself
    norm > clip_norm                  itself, scaled to norm clip_norm
    NaN or infinity anywhere          nothing; counted in `Clipped.nonfinite`
    no units at all                   the sum is zero, and noise is still released
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

# (model, windows of shape (rows, ...)) -> losses of shape (rows,). A row's loss may depend on its own row only.
WindowLosses = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipped:
    """What happened to a batch of units. All of it depends on private data and stays on the member's machine."""

    losses: tuple[float, ...]
    norms: tuple[float, ...]
    clipped: int
    nonfinite: int


class UnitGradients(Protocol):
    """A gradient mode."""

    def add(self, units: Sequence[Tensor], clip_norm: float, total: Tensor) -> Clipped:
        """Adds each unit's clipped gradient to `total`, float32, in the order of `parameters`.

        A unit is a tensor of its windows, shape `(windows, ...)`; its loss is the mean over its windows.
        """


class FlatVector:
    """One contiguous float32 vector on the parameters' device, with a view in the shape of each parameter."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.vector = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        self.views: list[Tensor] = []
        start = 0
        for p in parameters:
            self.views.append(self.vector[start : start + p.numel()].view(p.shape))
            start += p.numel()


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that take part, each once. Raises TypeError unless all are float32 and on one device."""
    chosen = [p for p in model.parameters() if p.requires_grad]
    if not chosen:
        raise TypeError("the model has no trainable parameter")
    for p in chosen:
        if p.dtype != torch.float32 or p.device != chosen[0].device:
            raise TypeError("private training takes float32 parameters on one device")
    return chosen


def clip_factor(norm: float, clip_norm: float) -> float:
    """The factor that a gradient of this norm is multiplied by; 0 for a norm that is not finite."""
    if not math.isfinite(norm):
        return 0.0
    return 1.0 if norm <= clip_norm else clip_norm / norm


def summary(losses: Sequence[float], norms: Sequence[float], clip_norm: float) -> Clipped:
    return Clipped(
        losses=tuple(losses),
        norms=tuple(norms),
        clipped=sum(norm > clip_norm for norm in norms if math.isfinite(norm)),
        nonfinite=sum(not math.isfinite(norm) for norm in norms),
    )
