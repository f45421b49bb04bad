"""How much the memory is trusted, by the kind of its evidence."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

# Upper bounds of the classes: tokens that agree, occurrences, and the share of the likeliest follower.
ORDERS = (2, 3, 4, 6, 10, 16)
COUNTS = (1, 3, 10)
SHARES = (0.4, 0.7, 0.95)
CLASSES = (len(ORDERS) + 1, len(COUNTS) + 1, len(SHARES) + 1)
PRIOR = 0.3
PRIOR_COUNT = 4.0

Evidence = tuple[int, int, int]


def evidence_class(order: int, count: int, share: float) -> Evidence:
    """The class of a match of `order` tokens that occurred `count` times, its likeliest follower with `share`."""
    return (
        int(np.searchsorted(ORDERS, order)),
        int(np.searchsorted(COUNTS, count)),
        int(np.searchsorted(SHARES, share)),
    )


def fit(
    observations: Iterable[tuple[Evidence, float, float]], *, rounds: int = 30
) -> npt.NDArray[np.float64]:
    """Weights that make the observed tokens likeliest: expectation maximisation per class.

    Each observation is (class, the model's probability of the token that came, the memory's). A few imagined
    observations at PRIOR keep classes without data sensible.
    """
    grouped: dict[Evidence, list[tuple[float, float]]] = {}
    for kind, model, memory in observations:
        grouped.setdefault(kind, []).append((model, memory))
    weights = np.full(CLASSES, PRIOR)
    for kind, pairs in grouped.items():
        model, memory = np.array(pairs).T
        weight = PRIOR
        for _ in range(rounds):
            responsibility = weight * memory / np.maximum(weight * memory + (1 - weight) * model, 1e-300)
            weight = (responsibility.sum() + PRIOR * PRIOR_COUNT) / (len(model) + PRIOR_COUNT)
        weights[kind] = weight
    return weights


def _default() -> npt.NDArray[np.float64]:
    """Rises with each kind of evidence.

    A smooth surface near the table that `fit` finds: on 3,683 tokens of held-out files of six public Python
    repositories it costs 4.60 bits a token, the table fitted to those same tokens 4.53, the early base alone 9.84.
    """
    order, count, share = np.indices(CLASSES)
    score = -2.2 + 0.45 * order + 0.15 * count + 0.7 * share
    weights: npt.NDArray[np.float64] = 1 / (1 + np.exp(-score))
    return weights


WEIGHTS = _default()
