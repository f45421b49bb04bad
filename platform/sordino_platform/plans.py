"""The encoded plan of a round: for a training, or for a count."""

from __future__ import annotations

import json

from sordino_privacy.counts import CountPlan
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import LinkError

MAX_PLAN_BYTES = 1 << 16

Plan = TrainingPlan | CountPlan


def parse_plan(plan: bytes) -> Plan:
    """The plan in these canonical bytes. A count is marked as one; a plan without a mark is for a training, as in
    earlier versions. Raises LinkError, or what the parsers of the two raise."""
    if len(plan) > MAX_PLAN_BYTES:
        raise LinkError("the coordinator's plan is larger than a plan can be")
    try:
        raw = json.loads(plan)
    except (ValueError, RecursionError) as error:  # RecursionError: for endless nesting
        raise LinkError("the coordinator's plan is not JSON") from error
    if not isinstance(raw, dict):
        raise LinkError("the coordinator's plan is not an object")
    return CountPlan.parse(raw) if "kind" in raw else TrainingPlan.parse(raw)
