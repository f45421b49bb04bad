"""Per-unit weight gradients written during one backward pass: as fast as training without privacy.

Autograd would compute one weight gradient for the whole batch, `sum over units of (output gradient)^T (input)`.
Here the same product is done unit by unit (a batched GEMM of equal work) straight into a buffer, *instead of*
autograd's, so a step costs what a plain step costs.

Parameters are watched where they are used, not by the kind of module that owns them: every torch function that touches
a trainable parameter during the forward pass is intercepted (`TorchFunctionMode`). A function with a rule below gets
its per-unit gradient, however often and from wherever the parameter is used, so a functionally tied weight
(`F.linear(h, embedding.weight)`) is right by construction. A function without a rule is a TypeError. And a gradient
that reaches a parameter on any other path lands in `.grad`, which is checked to be empty after every pass.

    F.linear        weight and bias
    torch.matmul    weight on the right, a matrix
    F.embedding     weight (no padding_idx, no scaling by frequency)
    F.rms_norm      weight

Every rule requires its input to have one leading row per window; a broadcast input (positions shared by the batch) is
a TypeError. Such models, and all others, are trained with `per_unit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, NoReturn, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sordino_privacy.dpsgd.gradients import (
    Clipped,
    WindowLosses,
    clip_factor,
    summary,
    trainable_parameters,
)

# Bounds on one pass, which fix the memory: bytes of per-unit gradients, and tokens (logits are what weighs most). A
# large base is given bounds of its own, from the memory that its trainer may use.
BUFFER = 704 << 20
TOKENS = 2112
# What may be asked of a parameter without computing with it.
_QUESTIONS = frozenset(
    {
        Tensor.shape.__get__,  # type: ignore[attr-defined]
        Tensor.dtype.__get__,  # type: ignore[attr-defined]
        Tensor.device.__get__,
        Tensor.ndim.__get__,  # type: ignore[attr-defined]
        Tensor.requires_grad.__get__,  # type: ignore[attr-defined]
        Tensor.dim,
        Tensor.size,
        Tensor.numel,
    }
)


class GradientBlock:
    """One parameter's gradients of the units in work: dense, shape `(units, *parameter.shape)`, or a few rows of it.

    An embedding that is only looked up touches a few of its rows. They are kept as rows, because writing, measuring
    and adding the zeros between them would cost more than the rest of the clip.
    """

    __slots__ = ("buffer", "name", "rows", "units", "value", "written")

    def __init__(self, name: str, parameter: nn.Parameter, most: int) -> None:
        self.name = name
        self.buffer = torch.empty((most, *parameter.shape), device=parameter.device)
        self.value = self.buffer
        self.units = 0
        self.written = False
        # Numbers of rows of all units' matrices laid one below the other, ascending, and their gradients.
        self.rows: tuple[Tensor, Tensor] | None = None

    def begin(self, units: int) -> None:
        self.units, self.written, self.rows = units, False, None
        self.value = self.buffer[:units]

    def per_unit(self, x: Tensor) -> Tensor:
        """`(rows, ..., features)` as `(units, positions, features)`."""
        return x.reshape(self.units, -1, x.shape[-1])

    def add_product(self, left: Tensor, right: Tensor) -> None:
        """Adds `left^T @ right` per unit; both `(units, positions, features)`."""
        if self.written:
            self.dense().baddbmm_(left.transpose(1, 2), right)
        else:
            torch.bmm(left.transpose(1, 2), right, out=self.value)
            self.written = True

    def add_sum(self, x: Tensor) -> None:
        """Adds the sum over positions of `(units, positions, features)`."""
        if self.written:
            self.dense().add_(x.sum(dim=1))
        else:
            torch.sum(x, dim=1, out=self.value)
            self.written = True

    def add_rows(self, indices: Tensor, x: Tensor) -> None:
        """Adds rows of `x`, `(units, positions, features)`, at `indices`, `(units, positions)`."""
        offsets = torch.arange(self.units, device=indices.device).mul_(self.value.shape[1]).view(-1, 1)
        at, flat = (indices + offsets).view(-1), x.flatten(0, 1)
        if self.written:
            self.dense().view(-1, x.shape[-1]).index_add_(0, at, flat)
            return
        found, places = torch.unique(at, return_inverse=True)
        self.rows = found, x.new_zeros(len(found), x.shape[-1]).index_add_(0, places, flat)
        self.written = True

    def dense(self) -> Tensor:
        """The gradients with all their zeros, `(units, *shape)`."""
        if self.rows is not None:
            found, values = self.rows
            self.value.zero_()
            self.value.view(-1, values.shape[-1])[found] = values
            self.rows = None
        return self.value

    def squares(self) -> Tensor:
        """Each unit's squared norm, float64 on the CPU, `(units,)`."""
        if self.rows is None:
            norms: Tensor = torch.linalg.vector_norm(self.value.view(self.units, -1), dim=1)
            return norms.cpu().double().square_()
        each = torch.linalg.vector_norm(self.rows[1], dim=1).cpu().double().square_()
        return torch.zeros(self.units, dtype=torch.float64).index_add_(0, self._owners().cpu(), each)

    def add_to(self, total: Tensor, factors: Tensor) -> None:
        """Adds `factor * gradient` of every unit to `total`, flat; a unit of factor 0 adds nothing, even if NaN."""
        if self.rows is None:
            gradient = self.value.view(self.units, -1)
            for unit in torch.nonzero(factors == 0).view(-1).tolist():
                gradient[unit] = 0.0  # 0 * NaN is NaN
            total.addmv_(gradient.T, factors)
            return
        found, values = self.rows
        weights = factors[self._owners()].view(-1, 1)
        values = torch.where(weights == 0, 0.0, values * weights)
        total.view(-1, values.shape[-1]).index_add_(0, found % self.value.shape[1], values)

    def _owners(self) -> Tensor:
        assert self.rows is not None
        return self.rows[0] // self.value.shape[1]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        to: GradientBlock | None,
        to_bias: GradientBlock | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.blocks = to, to_bias
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        to, to_bias = ctx.blocks
        if to is not None:
            to.add_product(to.per_unit(gradient), to.per_unit(x))
        if to_bias is not None:
            to_bias.add_sum(to_bias.per_unit(gradient))
        return (gradient @ weight if ctx.needs_input_grad[0] else None), None, None, None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, to: GradientBlock) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.to = to
        return x @ weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        ctx.to.add_product(ctx.to.per_unit(x), ctx.to.per_unit(gradient))
        return (gradient @ weight.T if ctx.needs_input_grad[0] else None), None, None


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, indices: Tensor, weight: Tensor, to: GradientBlock) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.to = to
        return F.embedding(indices, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        (gradient,) = gradients
        (indices,) = ctx.saved_tensors
        ctx.to.add_rows(indices.long().reshape(ctx.to.units, -1), ctx.to.per_unit(gradient))
        return None, None, None


class _RMSNorm(torch.autograd.Function):
    """`x / rms(x) * weight`, by hand: autograd's own passes through a dozen tensors of this size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, to: GradientBlock) -> Tensor:
        scale = (
            torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        )
        y = x * scale
        ctx.save_for_backward(y, scale, weight)
        ctx.to = to
        result: Tensor = y * weight
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient,) = gradients
        y, scale, weight = ctx.saved_tensors
        product = gradient * y
        ctx.to.add_sum(ctx.to.per_unit(product))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        mean = (product @ weight).div_(-y.shape[-1]).unsqueeze(-1)
        return (gradient * weight).addcmul_(y, mean).mul_(scale), None, None, None


class _Watch(TorchFunctionMode):
    """Replaces the functions that use a trainable parameter by those that write per-unit gradients."""

    def __init__(self, blocks: Mapping[int, GradientBlock], rows: int) -> None:
        super().__init__()
        self._blocks = blocks
        self._rows = rows
        self._refusal: TypeError | None = None

    def again(self) -> _Watch:
        """A watch over the same pass, for a part of it that is computed once more."""
        return _Watch(self._blocks, self._rows)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        used = [
            block for value in _tensors((args, kwargs)) if (block := self._blocks.get(id(value))) is not None
        ]
        if not used or func in _QUESTIONS:
            return func(*args, **kwargs)
        rule = _RULES.get(func)
        if rule is None:
            self.refuse(
                f"no per-unit gradient rule for {getattr(func, '__name__', func)!r} of {used[0].name}"
            )
        return rule(self, *args, **kwargs)

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        self._before = _WATCHING.set(self)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        _WATCHING.reset(self._before)
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        # Python's operators turn a TypeError into "unsupported operand", or try something else: the first one counts.
        if self._refusal is not None and error is not self._refusal:
            raise self._refusal

    def refuse(self, reason: str) -> NoReturn:
        self._refusal = self._refusal or TypeError(f"{reason}; train this model with the per-unit mode")
        raise self._refusal

    def block(self, parameter: Tensor | None) -> GradientBlock | None:
        return self._blocks.get(id(parameter))

    def require_rows(self, x: Tensor, block: GradientBlock | None) -> None:
        if x.dim() < 2 or x.shape[0] != self._rows or (block is not None and self.block(x) is not None):
            name = block.name if block is not None else "a parameter"
            self.refuse(f"{name} is used on an input without one row per window")


_WATCHING: ContextVar[_Watch | None] = ContextVar("sordino-watching", default=None)


def watched_again() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """`context_fn` of torch.utils.checkpoint: what is computed again on the way back is watched as it was on the way
    there. A model with checkpointing and without it is refused by the check that follows each pass."""
    watching = _WATCHING.get()
    return nullcontext(), nullcontext() if watching is None else watching.again()


def _linear(watch: _Watch, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    to, to_bias = watch.block(weight), watch.block(bias)
    watch.require_rows(input, to or to_bias)
    result: Tensor = _Linear.apply(input, weight, bias, to, to_bias)  # type: ignore[no-untyped-call]
    return result


def _matmul(watch: _Watch, input: Tensor, other: Tensor) -> Tensor:
    to = watch.block(other)
    if to is None or other.dim() != 2:
        watch.refuse("a product has a rule only with a trainable matrix on its right")
    watch.require_rows(input, to)
    result: Tensor = _Product.apply(input, other, to)  # type: ignore[no-untyped-call]
    return result


def _embedding(
    watch: _Watch,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    to = watch.block(weight)
    if to is None or padding_idx is not None or max_norm is not None or scale_grad_by_freq or sparse:
        raise TypeError(
            "an embedding with padding_idx, max_norm, frequency scaling or sparse gradients has no rule"
        )
    watch.require_rows(input, to)
    result: Tensor = _Embedding.apply(input, weight, to)  # type: ignore[no-untyped-call]
    return result


def _rms_norm(
    watch: _Watch,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    to = watch.block(weight)
    if to is None or len(normalized_shape) != 1:
        watch.refuse("RMSNorm over more than one axis has no rule")
    watch.require_rows(input, to)
    result: Tensor = _RMSNorm.apply(input, weight, torch.finfo(input.dtype).eps if eps is None else eps, to)  # type: ignore[no-untyped-call]
    return result


_RULES: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.linear: _linear,
    torch.matmul: _matmul,
    F.embedding: _embedding,
    F.rms_norm: _rms_norm,
}


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
        with _Watch(self._blocks, len(windows)):
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


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
