"""The per-unit gradients of one parameter, their norms, and their clipped sum.

A buffer is allocated once and written again for each group of units, so a step allocates nothing of this size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GradientBlock:
    """One parameter's gradients of the units in progress: dense, shape `(units, *parameter.shape)`, or a few rows of
    it.

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
        # Ascending row numbers in all units' matrices stacked below each other, and the gradients of these rows.
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
