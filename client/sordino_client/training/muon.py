"""Muon for the matrices, AdamW for the rest: the optimiser of the public base.

Muon (Jordan et al. 2024) replaces a matrix's momentum by its nearest semi-orthogonal matrix, found with five
Newton-Schulz iterations, so that every direction of the update has the same size. At equal time on two cores it
reached 1.667 bits per byte where AdamW reached 1.802. The embedding, the norms and the bias are no such matrices and
take AdamW (Loshchilov and Hutter 2019).

The state is a flat mapping of names to tensors: a checkpoint is one safetensors file, never a pickle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sordino_privacy.errors import StorageError

# The quintic that Jordan fitted: steepest at zero, so that small singular values rise within five iterations.
_QUINTIC = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Step sizes at full rate; a schedule multiplies both by a factor of 0 to 1.

    `matrix` is the size of Muon's update in units of a semi-orthogonal matrix, `other` is AdamW's learning rate.
    """

    matrix: float = 0.02
    other: float = 0.006
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-10
    matrix_decay: float = 0.05


def orthogonalise(matrix: Tensor, *, iterations: int = 5) -> Tensor:
    """A matrix with the singular vectors of `matrix`, shape `(rows, columns)`, and singular values near 1.

    Or several of one shape at once, `(count, rows, columns)`. Values land between 0.7 and 1.2 (the quintic trades
    accuracy for speed); a zero matrix stays zero.
    """
    a, b, c = _QUINTIC
    multiply = torch.addmm if matrix.ndim == 2 else torch.baddbmm
    wide = matrix.shape[-2] <= matrix.shape[-1]
    x = matrix if wide else matrix.mT
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = multiply(x, multiply(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


class Muon:
    """One optimiser over a model's named parameters; call `step(factor)` after `backward`.

    `precision` is what the Newton-Schulz iterations are computed in; they are known to bear bfloat16 (Jordan et al.).
    `together`: matrices of one shape are orthogonalised at once. An accelerator would spend the step on starting many
    small products; a processor has nothing to gain.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        rates: Rates,
        precision: torch.dtype = torch.float32,
        *,
        together: bool = False,
    ) -> None:
        self.rates, self.precision, self.together = rates, precision, together
        self.steps = 0
        self._matrices: dict[str, nn.Parameter] = {}
        self._others: dict[str, nn.Parameter] = {}
        for name, parameter in parameters:
            is_matrix = parameter.ndim == 2 and not name.startswith("embed.")
            (self._matrices if is_matrix else self._others)[name] = parameter
        self._state: dict[str, Tensor] = {}
        for name, parameter in self._matrices.items():
            self._state[f"momentum.{name}"] = torch.zeros_like(parameter)
        for name, parameter in self._others.items():
            self._state[f"first.{name}"] = torch.zeros_like(parameter)
            self._state[f"second.{name}"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Updates every parameter from its gradient, at `factor` times the full rates, and clears the gradients."""
        self.steps += 1
        directions = {name: self._direction(name, p) for name, p in self._matrices.items()}
        for name, parts in self._orthogonal(directions).items():
            parameter, rate = self._matrices[name], self.rates.matrix * factor
            scale = math.sqrt(max(1.0, parts[0].shape[0] / parts[0].shape[1]))
            update = torch.cat(parts).float().view(parameter.shape)
            parameter.mul_(1 - rate * self.rates.matrix_decay).add_(update, alpha=-rate * scale)
        for name, parameter in self._others.items():
            self._step_other(name, parameter, factor)

    def _direction(self, name: str, parameter: nn.Parameter) -> tuple[Tensor, ...]:
        """Nesterov's momentum of one parameter, in the maps that it holds."""
        gradient = _take_gradient(name, parameter)
        momentum = self._state[f"momentum.{name}"]
        momentum.lerp_(gradient, 1 - self.rates.momentum)
        nesterov = gradient.lerp(momentum, self.rates.momentum).to(self.precision)
        # Query, key and value share one tensor for speed but are three maps: each is orthogonalised on its own.
        columns = nesterov.shape[1]
        return torch.split(nesterov, columns) if name.endswith("query_key_value.weight") else (nesterov,)

    def _orthogonal(self, directions: dict[str, tuple[Tensor, ...]]) -> dict[str, list[Tensor]]:
        found = {name: list(parts) for name, parts in directions.items()}
        if not self.together:
            return {name: [orthogonalise(part) for part in parts] for name, parts in found.items()}
        places: dict[torch.Size, list[tuple[str, int]]] = {}
        for name, parts in found.items():
            for number, part in enumerate(parts):
                places.setdefault(part.shape, []).append((name, number))
        for group in places.values():
            stacked = torch.stack([found[name][number] for name, number in group])
            for (name, number), made in zip(group, orthogonalise(stacked), strict=True):
                found[name][number] = made
        return found

    def _step_other(self, name: str, parameter: nn.Parameter, factor: float) -> None:
        gradient = _take_gradient(name, parameter)
        first, second = self._state[f"first.{name}"], self._state[f"second.{name}"]
        beta1, beta2 = self.rates.betas
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(gradient.square(), 1 - beta2)
        correction = math.sqrt(1 - beta2**self.steps) / (1 - beta1**self.steps)
        parameter.addcdiv_(
            first, second.sqrt().add_(self.rates.epsilon), value=-self.rates.other * factor * correction
        )

    def state(self) -> dict[str, Tensor]:
        """The tensors to write to a checkpoint; `steps` goes beside them."""
        return dict(self._state)

    def load_state(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Restores `state()`. Raises StorageError for a checkpoint of another architecture."""
        if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in self._state.items()}:
            raise StorageError("the checkpoint belongs to another architecture", hint="choose another folder")
        for name, tensor in tensors.items():
            self._state[name].copy_(tensor)
        self.steps = steps


def _take_gradient(name: str, parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    assert gradient is not None, f"{name} has no gradient"
    parameter.grad = None
    return gradient
