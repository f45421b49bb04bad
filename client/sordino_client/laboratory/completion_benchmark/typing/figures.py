"""Turns typed passages into figures: shares over all passages, with a 95 % bootstrap interval over files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sordino_client.laboratory.completion_benchmark.typing.replay import Typed

RESAMPLES = 2_000
SEED = 20261129


def figures(typed: Sequence[Typed], *, interval: bool = False) -> dict[str, Any]:
    """The flat document of one contender's figures over its passages; `interval` adds the interval of `saved_share`."""
    milliseconds = [ms for one in typed for ms in one.milliseconds]
    keys = sum(one.keys for one in typed)
    found: dict[str, Any] = {
        "saved_share": round(_saved(typed), 4),
        "right_share": round(_right(typed), 4),
        "shown_per_100_keys": round(100 * sum(one.shown for one in typed) / max(keys, 1), 2),
        "wrong_characters_per_100_keys": round(
            100 * sum(one.wrong_characters for one in typed) / max(keys, 1), 2
        ),
        "new_error_share": round(
            sum(one.new_errors for one in typed) / max(1, sum(one.shown for one in typed)), 4
        ),
        "p50_ms": _percentile(milliseconds, 50),
        "p95_ms": _percentile(milliseconds, 95),
        "files": len(typed),
        "characters": sum(one.characters for one in typed),
    }
    if interval:
        found["saved_share_ci"] = resampled(typed, _saved)
    return found


def resampled(typed: Sequence[Typed], figure: Callable[[Sequence[Typed]], float]) -> list[float]:
    """A 95 % bootstrap interval of `figure` over files."""
    draw = np.random.default_rng(SEED)
    values = [
        figure([typed[i] for i in draw.integers(0, len(typed), len(typed)).tolist()])
        for _ in range(RESAMPLES)
    ]
    return [round(float(value), 4) for value in np.percentile(values, [2.5, 97.5])]


def paired_gain(ours: Sequence[Typed], theirs: Sequence[Typed]) -> dict[str, Any]:
    """How much more was saved on the same passages, and the 95 % interval over files."""
    pairs = np.array([(a.saved, b.saved, a.characters) for a, b in zip(ours, theirs, strict=True)], float)

    def gain(rows: np.ndarray) -> float:
        return float((rows[:, 0] - rows[:, 1]).sum() / rows[:, 2].sum())

    draw = np.random.default_rng(SEED)
    values = [gain(pairs[draw.integers(0, len(pairs), len(pairs))]) for _ in range(RESAMPLES)]
    low, high = np.percentile(values, [2.5, 97.5])
    return {"saved_share_gain": round(gain(pairs), 4), "ci": [round(float(low), 4), round(float(high), 4)]}


def _saved(typed: Sequence[Typed]) -> float:
    return sum(one.saved for one in typed) / max(1, sum(one.characters for one in typed))


def _right(typed: Sequence[Typed]) -> float:
    return sum(one.right for one in typed) / max(1, sum(one.shown for one in typed))


def _percentile(values: Sequence[float], share: float) -> float | None:
    return round(float(np.percentile(values, share)), 2) if values else None
