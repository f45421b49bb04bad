"""How strongly a personal adapter is pulled towards the model that it lies on, chosen by the member's own code.

A member's own model and the federation's are two estimates of one thing: the first knows this code and little of it,
the second much code and of others. Mean-regularised multi-task learning draws the first towards the second (MR-MTL,
Liu, Hu, Wu and Smith 2022, "On privacy and personalization in cross-silo federated learning"): the loss of an adapter
grows by `pull / 2` times the squared length of what it changes. Without any pull it is the member's training alone, and
the stronger the pull, the nearer it stays to the federation. Which pull is right depends on how alike the members are
and on how much code there is. So several are tried, and code of the member that none of them has seen decides. Nothing
here is released, and nothing is charged.

    >>> chosen = choose_pull(factors, train=lambda pull: ..., heldout=lambda: ...)
    >>> chosen.pull, chosen.loss
    (0.01, 1.92)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# No pull; one that costs hardly anything; one that takes a quarter of the gain of an adapter of eight files. Tried on
# one public project: 0.039, 0.038 and 0.028 bits per byte gained, and 0.014 at ten times as much.
PULLS = (0.0, 0.01, 0.1)
# One unit in this many is held out of the training and chooses; with few units, a larger share.
HELD_OUT, HELD_OUT_OF_FEW = 16, 4
FEWEST_UNITS = 2 * HELD_OUT_OF_FEW


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The pull that held-out code chose; `loss` in nats per token there, `each` of every pull that was tried."""

    pull: float
    loss: float
    each: Mapping[float, float]


def held_out_every(units: int) -> int:
    """For this number of units, one in how many is held out of the training of an adapter, beginning with the first."""
    return HELD_OUT if units >= 2 * HELD_OUT else HELD_OUT_OF_FEW


def penalty(factors: Mapping[str, Tensor], pull: float) -> Tensor:
    """`pull / 2` times the squared length of all products `up @ down`: what is added to the loss of a step.

    `factors` holds `NAME.down`, `(rank, inputs)`, and `NAME.up`, `(outputs, rank)`. The products are never made: their
    squared lengths are the sums of `(up^T up) * (down down^T)`, of rank times rank each.
    """
    total = next(iter(factors.values())).new_zeros(())
    for name, down in factors.items():
        if name.endswith(".down"):
            up = factors[f"{name.removesuffix('.down')}.up"]
            total = total + ((up.T @ up) * (down @ down.T)).sum()
    return pull / 2 * total


def choose_pull(
    factors: Mapping[str, nn.Parameter],
    *,
    train: Callable[[float], None],
    heldout: Callable[[], float],
    pulls: Sequence[float] = PULLS,
) -> Chosen:
    """Trains the factors once under each pull, always from where they stand now, and leaves them as the best made them.

    `train` trains them in place under a pull; `heldout` is the loss of the model as they stand. Equal losses go to the
    stronger pull, since the shorter change says the same.
    """
    start = {name: factor.detach().clone() for name, factor in factors.items()}
    best: tuple[float, float, dict[str, Tensor]] | None = None
    each: dict[float, float] = {}
    for pull in sorted(pulls):
        _set(factors, start)
        train(pull)
        each[pull] = heldout()
        if best is None or each[pull] <= best[0]:
            best = each[pull], pull, {name: factor.detach().clone() for name, factor in factors.items()}
    if best is None:
        raise ValueError("no pull to try")
    _set(factors, best[2])
    return Chosen(pull=best[1], loss=best[0], each=each)


@torch.no_grad()
def _set(factors: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, factor in factors.items():
        factor.copy_(values[name])
