"""What a member checks around the exchange: before it trains (phase 0) and before it adopts a result (phase 6).

The protocol itself knows nothing about models. The checks that need the member's charter, budget and releases are where
those are (sordino_platform.following, sordino_client.round.agreement).
"""

from __future__ import annotations

import math

import numpy as np

from sordino_privacy.secagg.masks import CHUNK_BYTES
from sordino_privacy.secagg.refusals import ModelError
from sordino_privacy.secagg.rounding import FloatVector


def require_model(held: bytes, proposed: bytes) -> None:
    """Refusal 7: a round must start from the newest model that the member itself holds.

    `held` and `proposed` are hashes of models, 32 bytes each. Raises ModelError when they differ.
    """
    if held != proposed:
        raise ModelError(
            "the round does not start from this member's newest verified model",
            hint="let the member fetch the releases that it missed, then try again",
        )


def euclidean_norm(vector: FloatVector) -> float:
    """The L2 norm in float64, without a float64 copy of the vector. Infinite or NaN if the vector is."""
    size = CHUNK_BYTES // 8
    chunks = (vector[low : low + size].astype(np.float64) for low in range(0, len(vector), size))
    return math.sqrt(sum(float(chunk @ chunk) for chunk in chunks))
