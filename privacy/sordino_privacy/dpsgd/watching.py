"""Which functions may use a trainable parameter, and how each writes the per-unit gradients of what it uses.

Parameters are watched where they are used, not by the kind of module that owns them: every torch function that touches
a trainable parameter during the forward pass is intercepted (`TorchFunctionMode`). For a function with a rule below,
the per-unit gradient is written at every use of the parameter, from any place. So a functionally tied weight
(`F.linear(h, embedding.weight)`) is right by construction. A function without a rule is a TypeError.

    F.linear        weight and bias
    torch.matmul    weight on the right, a matrix
    F.embedding     weight (no padding_idx, no scaling by frequency)
    F.rms_norm      weight

Every rule requires its input to have one leading row per window; a broadcast input (positions shared by the batch) is
a TypeError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, NoReturn, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sordino_privacy.dpsgd.gradient_block import GradientBlock

# What may be read from a parameter without computing with it.
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
    """`x / rms(x) * weight`, written by hand: autograd's own version goes through a dozen tensors of this size."""

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


class ParameterWatch(TorchFunctionMode):
    """Replaces the functions that use a trainable parameter by those that write per-unit gradients."""

    def __init__(self, blocks: Mapping[int, GradientBlock], rows: int) -> None:
        super().__init__()
        self._blocks = blocks
        self._rows = rows
        self._refusal: TypeError | None = None

    def again(self) -> ParameterWatch:
        """A watch over the same pass, for a part of it that is computed again."""
        return ParameterWatch(self._blocks, self._rows)

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
        # Python's operators turn a TypeError into "unsupported operand", or try something else: so raise the first
        # refusal.
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


_WATCHING: ContextVar[ParameterWatch | None] = ContextVar("sordino-watching", default=None)


def watched_again() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """`context_fn` of torch.utils.checkpoint: what is computed again in the backward pass is watched as in the forward
    pass. A model with checkpointing but without this `context_fn` is refused by the check that follows each pass.
    """
    watching = _WATCHING.get()
    return nullcontext(), nullcontext() if watching is None else watching.again()


def _linear(watch: ParameterWatch, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    to, to_bias = watch.block(weight), watch.block(bias)
    watch.require_rows(input, to or to_bias)
    result: Tensor = _Linear.apply(input, weight, bias, to, to_bias)  # type: ignore[no-untyped-call]
    return result


def _matmul(watch: ParameterWatch, input: Tensor, other: Tensor) -> Tensor:
    to = watch.block(other)
    if to is None or other.dim() != 2:
        watch.refuse("a product has a rule only with a trainable matrix on its right")
    watch.require_rows(input, to)
    result: Tensor = _Product.apply(input, other, to)  # type: ignore[no-untyped-call]
    return result


def _embedding(
    watch: ParameterWatch,
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
    watch: ParameterWatch,
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


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
