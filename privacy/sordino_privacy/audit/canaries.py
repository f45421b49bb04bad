"""From guesses about canaries to a lower bound on the mechanism's epsilon (Steinke, Nasr, Jagielski 2023).

For each of `m` canaries a fair coin decides whether it is put into the data. The auditor looks at what was released and
guesses some of the coins. Under (epsilon, delta)-DP the number of right guesses is, up to a term in delta, no larger
than if each guess were right independently with probability e^eps / (1 + e^eps). Therefore a large number of right
guesses refutes a small epsilon. One run suffices, because the canaries are independent of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult:
    """`lower` is an epsilon lower bound at the given confidence; `area` the AUC of the scores, 0.5 for no signal."""

    canaries: int
    guesses: int
    correct: int
    lower: float
    area: float
    confidence: float


def judge_canaries(
    scores: Scores, inserted: npt.NDArray[np.bool_], *, delta: float, confidence: float = 0.95
) -> CanaryResult:
    """Guesses "in" for the highest scores and "out" for the lowest, at several numbers of guesses, and takes the best.

    The significance is corrected for trying several numbers (Bonferroni). `scores` and `inserted` have shape `(m,)`.
    """
    m = len(scores)
    order = np.argsort(scores)
    counts = sorted({max(1, m // share) for share in (2, 4, 8, 16, 32)})
    best = CanaryResult(
        canaries=m, guesses=0, correct=0, lower=0.0, area=area(scores, inserted), confidence=confidence
    )
    for count in counts:
        correct = int((~inserted[order[:count]]).sum() + inserted[order[-count:]].sum())
        lower = lower_bound(m, 2 * count, correct, delta, (1 - confidence) / len(counts))
        if lower > best.lower:
            best = CanaryResult(
                canaries=m,
                guesses=2 * count,
                correct=correct,
                lower=lower,
                area=best.area,
                confidence=confidence,
            )
    return best


def lower_bound(m: int, guesses: int, correct: int, delta: float, significance: float) -> float:
    """The largest epsilon that the count of right guesses refutes at this significance; 0 when it refutes none."""
    if p_value(m, guesses, correct, 0.0, delta) > significance:
        return 0.0
    low, high = 0.0, 1.0
    while p_value(m, guesses, correct, high, delta) <= significance and high < 64:
        low, high = high, 2 * high
    while high - low > 1e-4:
        middle = (low + high) / 2
        if p_value(m, guesses, correct, middle, delta) <= significance:
            low = middle
        else:
            high = middle
    return low


def p_value(m: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """An upper bound on the probability of at least `correct` right guesses under (epsilon, delta)-DP (Theorem 5.2)."""
    from scipy.stats import binom

    if not 0 <= correct <= guesses <= m:
        raise ValueError("right guesses are some of the guesses, and guesses some of the canaries")
    right = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(correct - 1, guesses, right))
    if not delta:
        return min(1.0, beta)
    # P(correct - i <= count < correct) / i, the largest over i.
    below = np.cumsum(binom.pmf(correct - np.arange(1, correct + 1), guesses, right))
    alpha = float((below / np.arange(1, correct + 1)).max()) if correct else 0.0
    return min(1.0, beta + 2 * m * delta * alpha)


def area(scores: Scores, inserted: npt.NDArray[np.bool_]) -> float:
    """The area under the ROC curve: the probability that an inserted canary scores above one that was left out."""
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    ins, outs = int(inserted.sum()), int((~inserted).sum())
    if not ins or not outs:
        return 0.5
    return float((ranks[inserted].sum() - ins * (ins + 1) / 2) / (ins * outs))
