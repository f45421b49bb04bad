"""Per-unit weight gradients written during one backward pass: as fast as training without privacy.

Autograd would compute one weight gradient for the whole batch, `sum over units of (output gradient)^T (input)`.
Here the same product is done unit by unit (a batched GEMM of equal work) straight into a buffer, *instead of*
autograd's, so a step costs what a plain step costs.

Which functions may use a parameter, and what each writes, is in `watching`. A gradient that reaches a parameter on any
other path lands in `.grad`, and after every pass `.grad` is checked to be empty. Models that use a parameter in a way
that has no rule are trained with `per_unit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sordino_privacy.dpsgd.gradient_block import GradientBlock
from sordino_privacy.dpsgd.gradients import (
    Clipped,
    WindowLosses,
    clip_factor,
    summary,
    trainable_parameters,
)
from sordino_privacy.dpsgd.watching import ParameterWatch

# Bounds on one pass, which fix the memory: bytes of per-unit gradients, and tokens (logits need the most memory). A
# large base model gets bounds of its own, from the memory that its trainer may use.
BUFFER = 704 << 20
TOKENS = 2112


class OnePassGradients:
    """The gradient mode "one-pass". See `gradients.UnitGradients`.

    Raises TypeError where the model uses a parameter in a way that has no rule.
    """

    def __init__(
        self, model: nn.Module, window_losses: WindowLosses, *, buffer: int = BUFFER, tokens: int = TOKENS
    ) -> None:
        self._model = model
        self._window_losses = window_losses
        self._parameters = trainable_parameters(model)
        names = {id(p): name for name, p in model.named_parameters()}
        self._tokens = tokens
        self._most = max(1, min(tokens, buffer // (4 * sum(p.numel() for p in self._parameters))))
        self._blocks = {id(p): GradientBlock(names[id(p)], p, self._most) for p in self._parameters}

    def add(self, units: Sequence[Tensor], clip_norm: float, total: Tensor) -> Clipped:
        losses: list[float] = []
        norms: list[float] = []
        for group in self._passes(units):
            losses += self.per_sample(group)
            norms += self._clip(len(group), clip_norm, total)
        return summary(losses, norms, clip_norm)

    def per_sample(self, units: Sequence[Tensor]) -> list[float]:
        """Fills the buffer with the gradients of units of one shape, at most as many as fit. Returns their losses."""
        windows = torch.cat(list(units))
        for block in self._blocks.values():
            block.begin(len(units))
        with ParameterWatch(self._blocks, len(windows)):
            rows = self._window_losses(self._model, windows)
        losses = rows.view(len(units), -1).mean(dim=1)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        for p in self._parameters:
            block = self._blocks[id(p)]
            if p.grad is not None:
                p.grad = None
                raise TypeError(f"a gradient reached {block.name} past the clip; use the per-unit mode")
            if not block.written:
                raise TypeError(f"{block.name} takes no part in the loss")
        return losses.tolist()

    def samples(self) -> list[Tensor]:
        """The gradients of the last `per_sample`, `(units, *shape)` per parameter: Opacus' `grad_sample`."""
        return [self._blocks[id(p)].dense() for p in self._parameters]

    def _passes(self, units: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Groups of units of one shape that fit the bounds; at least one unit each."""
        groups: dict[torch.Size, list[Tensor]] = {}
        for unit in units:
            group = groups.setdefault(unit.shape, [])
            group.append(unit)
            if len(group) == self._most or (len(group) + 1) * unit.numel() > self._tokens:
                yield groups.pop(unit.shape)
        yield from groups.values()

    def _clip(self, units: int, clip_norm: float, total: Tensor) -> list[float]:
        blocks = [self._blocks[id(p)] for p in self._parameters]
        squares = torch.zeros(units, dtype=torch.float64)
        for block in blocks:
            squares += block.squares()
        norms: list[float] = squares.sqrt_().tolist()
        factors = torch.tensor([clip_factor(norm, clip_norm) for norm in norms], device=total.device)
        start = 0
        for block in blocks:
            stop = start + block.buffer[0].numel()
            block.add_to(total[start:stop], factors)
            start = stop
        return norms
