"""What private training costs: epsilon by privacy loss distributions, cross-checked with the looser Renyi bound.

Adjacency is zero-out: a neighbouring data set has one unit's contributions replaced by nothing, so the *number* of
units may be public. The unit is a file cluster (near-duplicate files together), never a window of tokens.
"""

from sordino_privacy.accounting.central import central_epsilon
from sordino_privacy.accounting.epsilon import (
    Epsilon,
    SampledGaussian,
    epsilon,
    group_epsilon,
    merged_events,
    runs_left,
)

__all__ = [
    "Epsilon",
    "SampledGaussian",
    "central_epsilon",
    "epsilon",
    "group_epsilon",
    "merged_events",
    "runs_left",
]
