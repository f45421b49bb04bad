"""What a member checks around the exchange: before it trains (phase 0) and before it adopts a result (phase 6).

The exchange itself cannot know what a model means. These are the checks that a member owes itself with its own model,
budget and limits in hand; each raises its refusal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np

from sordino_privacy.secagg.masks import CHUNK_BYTES
from sordino_privacy.secagg.quantise import FloatVector
from sordino_privacy.secagg.refusals import BudgetExhaustedError, ModelError


def require_architecture(architecture: bytes, known: Collection[bytes]) -> None:
    """Refusal 7: the proposed architecture's hash must be one that the charter names."""
    if architecture not in known:
        raise ModelError("the coordinator proposed an architecture that the charter does not name")


def require_model(held: bytes, proposed: bytes) -> None:
    """Refusal 7: a round must start from the model that the member itself holds at the end of its chain."""
    if held != proposed:
        raise ModelError(
            "the round does not start from this member's newest verified model",
            hint="let the member fetch the releases that it missed, then try again",
        )


def require_budget(epsilon_after: float, limit: float) -> None:
    """Refusal 13: `epsilon_after` is what would be spent in all with this round. NaN is refused."""
    if not epsilon_after <= limit:
        raise BudgetExhaustedError(
            f"this round would bring the privacy spent to epsilon {epsilon_after:.2f}; the budget is {limit:.2f}",
            hint="the member can go on receiving models; it will not train until its budget allows it",
        )


def require_step(
    old: FloatVector,
    step: FloatVector,
    new_hash: bytes,
    *,
    norm_limit: float,
    hash_of: Callable[[FloatVector], bytes],
) -> FloatVector:
    """Refusal 7, phase 6: the published `step` must be finite, no longer than `norm_limit`, and lead from the member's
    `old` model to the model whose hash is `new_hash`. Returns that model. `hash_of` hashes a model vector."""
    if step.shape != old.shape:
        raise ModelError("the published step has another shape than the model")
    norm = euclidean_norm(step)
    if not norm <= norm_limit:
        raise ModelError(
            f"the published step has norm {norm:.4g}, above the limit of {norm_limit:.4g}, or is not finite"
        )
    new = old + step
    if hash_of(new) != new_hash:
        raise ModelError("the new model is not the old one plus the published step")
    return new


def euclidean_norm(vector: FloatVector) -> float:
    """The L2 norm in float64, without a float64 copy of the vector. Infinite or NaN when the vector is."""
    size = CHUNK_BYTES // 8
    chunks = (vector[low : low + size].astype(np.float64) for low in range(0, len(vector), size))
    return math.sqrt(sum(float(chunk @ chunk) for chunk in chunks))
