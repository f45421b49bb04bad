"""What the coordinator tells a member before a round, and asks: whether it is ready for one like this.

An offer binds nobody. It lets a person see what the next round would be and cost; what is then proposed is checked
against the charter, the budget and what the person agreed to, as if no offer had been made.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import RecordDict

from sordino_platform.flower.phases import Fields, pack
from sordino_platform.proposal import parse_plan
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import LinkError

MAX_COUNT = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The content of a HELLO message.

    `round` is the number that the next round will have, `release` the newest model. Of the charter's `members`, so
    many are `connected` and were `ready` when they were last asked; a round needs `required` of them.
    """

    round: int
    release: int
    connected: int
    ready: int
    required: int
    members: int
    plan: TrainingPlan

    def pack(self) -> RecordDict:
        """As Flower records."""
        counts = {name: getattr(self, name) for name in COUNTS}
        return pack({**counts, "plan": self.plan.canonical()})

    @classmethod
    def parse(cls, fields: Fields) -> Offer:
        """Takes the message apart. Raises LinkError, or what the plan's parser raises."""
        counts = {name: fields.integer(name) for name in COUNTS}
        if not all(0 <= count < MAX_COUNT for count in counts.values()):
            raise LinkError("the coordinator's offer has a count that cannot be")
        plan = parse_plan(fields.blob("plan"))
        fields.done()
        return cls(**counts, plan=plan)


COUNTS = ("round", "release", "connected", "ready", "required", "members")
