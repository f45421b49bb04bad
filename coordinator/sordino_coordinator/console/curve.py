"""The geometry of the held-out loss curve: points and ticks in a box, for a drawing by the page's template.

No plotting library is used: the page's policy forbids inline style, which such libraries write into every SVG, and the
drawing has to follow the browser's colour scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RIGHT, TOP, BOTTOM = 16.0, 14.0, 34.0
CHARACTER: Final = 8.0  # width of a digit at the template's font size
TICKS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A position along an axis, and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Everything a template needs, in the SVG's own units. `x0`, `x1`, `y0`, `y1` are the plot's edges."""

    width: float
    height: float
    x0: float
    x1: float
    y0: float
    y1: float
    line: str
    dots: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def curve(points: Sequence[tuple[int, float]], *, width: float, height: float) -> Curve | None:
    """The curve through (release number, loss) in their order; None with fewer than two points."""
    if len(points) < 2:
        return None
    first, last = points[0][0], points[-1][0]
    losses = [loss for _, loss in points]
    ticks = nice(min(losses), max(losses))
    low, high = ticks[0], ticks[-1]
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    labels = [f"{value:.{digits}f}" for value in ticks]
    x0, x1, y0, y1 = 12 + CHARACTER * max(map(len, labels)), width - RIGHT, height - BOTTOM, TOP

    def x(number: float) -> float:
        return round(x0 + (x1 - x0) * (number - first) / (last - first), 2)

    def y(loss: float) -> float:
        return round(y0 + (y1 - y0) * (loss - low) / (high - low), 2)

    dots = tuple((x(number), y(loss)) for number, loss in points)
    step = max(1, math.ceil((last - first) / max(1, int((x1 - x0) // 70))))
    numbers = [*range(first, last - step // 2, step), last] if last - first > step else [first, last]
    return Curve(
        width=width,
        height=height,
        x0=x0,
        x1=x1,
        y0=y0,
        y1=y1,
        line=" ".join(f"{px:g},{py:g}" for px, py in dots),
        dots=dots,
        x_ticks=tuple(Tick(at=x(number), label=str(number)) for number in numbers),
        y_ticks=tuple(Tick(at=y(value), label=label) for value, label in zip(ticks, labels, strict=True)),
    )


def nice(low: float, high: float) -> list[float]:
    """About TICKS round values that enclose [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    rough = max((high - low) / TICKS, 1e-6 * max(1.0, abs(high)))
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    start, end = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(start, max(end, start + 1) + 1)]
