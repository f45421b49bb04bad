"""The server optimiser: how the mean of a round's updates becomes the next model. Pure; both sides compute it.

    fedavg    x' = x + lr * d                                                        McMahan et al. 2017 (lr = 1)
    fedavgm   m' = beta1 * m + d,                 x' = x + lr * m'                   Hsu et al. 2019
    fedadam   m' = beta1 * m + (1 - beta1) * d,
              v' = beta2 * v + (1 - beta2) * d^2, x' = x + lr * m' / (sqrt(v') + tau)  Reddi et al. 2021, algorithm 2

d is the mean update, and m and v begin at zero. All of it is post-processing of a public sum, so it costs no privacy.

Members repeat the step and compare hashes, so it must give the same bits on every machine: float32 throughout, one IEEE
operation after the other (addition, product, quotient and square root are correctly rounded everywhere), never a fused
operation or a reduction. The moments are sent with the opened sum, and the release before contains their hashes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from sordino_platform.architecture import Vector
from sordino_platform.canonical import Document

Moments = tuple[Vector, ...]
MOST_MOMENTS = 2


class ServerOptimiser(Document):
    """The kind of step, and its terms. Terms that a step does not use have no effect. Signed in each release."""

    name: Literal["fedavg", "fedavgm", "fedadam"] = "fedavg"
    learning_rate: float = Field(default=1.0, gt=0, le=1000)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    tau: float = Field(default=1e-3, gt=0, le=1)

    @property
    def moments(self) -> int:
        """The number of vectors of the model's length that the step keeps between rounds."""
        return {"fedavg": 0, "fedavgm": 1, "fedadam": 2}[self.name]

    def reach(self, longest: float, dimension: int) -> float:
        """The largest L2 norm of one step in `dimension` coordinates, if no mean so far was longer than `longest`.

        fedadam's m' is an average of means, so no longer than the longest. And in each coordinate, by Cauchy-Schwarz on
        the two sums, |m'| / sqrt(v') <= (1 - beta1) / sqrt((1 - beta2)(1 - beta1^2 / beta2)) where beta1^2 < beta2.
        """
        match self.name:
            case "fedavg":
                return self.learning_rate * longest
            case "fedavgm":
                return self.learning_rate * longest / (1 - self.beta1)
            case "fedadam":
                by_mean = longest / self.tau
                if (ratio := self.beta1**2 / self.beta2 if self.beta2 else 1.0) >= 1:
                    return self.learning_rate * by_mean
                coordinate = (1 - self.beta1) / math.sqrt((1 - self.beta2) * (1 - ratio))
                return self.learning_rate * min(by_mean, coordinate * math.sqrt(dimension))

    def fresh(self, dimension: int) -> Moments:
        """The moments before the first step."""
        return tuple(np.zeros(dimension, dtype=np.float32) for _ in range(self.moments))

    def step(self, model: Vector, mean: Vector, moments: Sequence[Vector]) -> tuple[Vector, Moments]:
        """The next model and moments. All float32, shape `(dimension,)`; raises ValueError for anything else.

        A value that overflows is not finite afterwards: the caller must check before it uses the model.
        """
        for vector in (model, mean, *moments):
            if vector.dtype != np.float32 or vector.shape != model.shape or vector.ndim != 1:
                raise ValueError("the optimiser takes float32 vectors of one length")
        if len(moments) != self.moments:
            raise ValueError(f"{self.name} keeps {self.moments} moments, not {len(moments)}")
        rate, beta1, beta2, tau = map(np.float32, (self.learning_rate, self.beta1, self.beta2, self.tau))
        one = np.float32(1)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.name == "fedavg":
                return model + (mean if rate == one else rate * mean), ()
            if self.name == "fedavgm":
                momentum = beta1 * moments[0] + mean
                return model + rate * momentum, (momentum,)
            momentum = beta1 * moments[0] + (one - beta1) * mean
            spread = beta2 * moments[1] + (one - beta2) * (mean * mean)
            return model + rate * momentum / (root(spread) + tau), (momentum, spread)


def root(vector: Vector) -> Vector:
    """Square roots, in float32 like the argument."""
    found: Vector = np.sqrt(vector, dtype=np.float32)
    return found
