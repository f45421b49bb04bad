"""A training plan as it travels."""

from __future__ import annotations

import json

from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import LinkError

MAX_PLAN_BYTES = 1 << 16


def parse_plan(plan: bytes) -> TrainingPlan:
    """The plan in its canonical bytes. Raises LinkError, or what `TrainingPlan.parse` raises."""
    if len(plan) > MAX_PLAN_BYTES:
        raise LinkError("the coordinator's training plan is larger than a plan can be")
    try:
        raw = json.loads(plan)
    except (ValueError, RecursionError) as error:  # the second for what is nested without end
        raise LinkError("the coordinator's training plan is not JSON") from error
    if not isinstance(raw, dict):
        raise LinkError("the coordinator's training plan is not an object")
    return TrainingPlan.parse(raw)
