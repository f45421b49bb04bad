"""The plan of a round as it travels: of a training, or of a count."""

from __future__ import annotations

import json

from sordino_privacy.counts import CountPlan
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import LinkError

MAX_PLAN_BYTES = 1 << 16

Plan = TrainingPlan | CountPlan


def parse_plan(plan: bytes) -> Plan:
    """The plan in its canonical bytes. A count says that it is one; a plan that says nothing is of a training, as it
    always was. Raises LinkError, or what the parsers of the two raise."""
    if len(plan) > MAX_PLAN_BYTES:
        raise LinkError("the coordinator's plan is larger than a plan can be")
    try:
        raw = json.loads(plan)
    except (ValueError, RecursionError) as error:  # the second for what is nested without end
        raise LinkError("the coordinator's plan is not JSON") from error
    if not isinstance(raw, dict):
        raise LinkError("the coordinator's plan is not an object")
    return CountPlan.parse(raw) if "kind" in raw else TrainingPlan.parse(raw)
