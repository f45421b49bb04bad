"""What the coordinator tells a member before a round, and what the member answers: whether it is ready, or why not.

An offer binds nobody. It lets a person see what the next round would be and cost; what is then proposed is checked
against the charter, the budget and what the person agreed to, as if no offer had been made. A member that knows now
that it would refuse says so now: nobody else trains, and nobody is charged, for a round that could not succeed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flwr.app import RecordDict

from sordino_platform.flower.phases import Fields, Scalar, pack
from sordino_platform.ledger_head import MAX_HEAD_BYTES
from sordino_platform.proposal import parse_plan
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import LinkError

MAX_COUNT = 1 << 32
COUNTS = ("round", "release", "connected", "ready", "required", "members")


class Unready(StrEnum):
    """Why a member takes no part in a round like the one that is offered. Closed, and of no data.

    All but `LOCAL` follow from the offer, the charter, the member's settings and its public history of rounds. `LOCAL`
    is everything that looks at the repositories (unreadable, too few units) or at the trainer: one label, so that it
    says no more of the code than silence would.
    """

    PAUSED = "paused"
    NOT_ASKED = "not_asked"
    CHARTER = "charter"
    PLAN = "plan"
    BUDGET = "budget"
    DAY_CAP = "day_cap"
    LEDGER = "ledger"
    BASE = "base"
    DISK = "disk"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The content of a HELLO message.

    `round` is the number that the next round will have, `release` the newest model. Of the charter's `members`, so
    many are `connected` and were `ready` when they were last asked; a round needs `required` of them. `head` is the
    newest signed head of this member's ledger that the coordinator keeps (sordino_platform.ledger_head), or empty.
    """

    round: int
    release: int
    connected: int
    ready: int
    required: int
    members: int
    plan: TrainingPlan
    head: bytes = b""

    def pack(self) -> RecordDict:
        """As Flower records."""
        counts: dict[str, Scalar] = {name: getattr(self, name) for name in COUNTS}
        return pack({**counts, "plan": self.plan.canonical(), "head": self.head})

    @classmethod
    def parse(cls, fields: Fields) -> Offer:
        """Takes the message apart. Raises LinkError, or what the plan's parser raises."""
        counts = {name: fields.integer(name) for name in COUNTS}
        if not all(0 <= count < MAX_COUNT for count in counts.values()):
            raise LinkError("the coordinator's offer has a count that cannot be")
        plan, head = parse_plan(fields.blob("plan")), fields.blob("head")
        if len(head) > MAX_HEAD_BYTES:
            raise LinkError("the coordinator's offer has a ledger head that is too long")
        fields.done()
        return cls(**counts, plan=plan, head=head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """The answer to an offer: who this is, its newest release (-1: none) and epoch, why it is not ready (None: it is),
    and the signed head of its ledger."""

    member: str
    release: int
    epoch: int
    unready: Unready | None
    head: bytes

    def fields(self) -> dict[str, Scalar]:
        """As a message's fields."""
        return {
            "member": self.member,
            "release": self.release,
            "epoch": self.epoch,
            "unready": self.unready or "",
            "head": self.head,
        }

    @classmethod
    def parse(cls, fields: Fields) -> Presence:
        """Takes the answer apart. Raises LinkError for anything that `fields` would not have made."""
        member, release, epoch = fields.text("member"), fields.integer("release"), fields.integer("epoch")
        reason, head = fields.text("unready"), fields.blob("head")
        fields.done()
        if not (-1 <= release < MAX_COUNT and 0 <= epoch < MAX_COUNT and len(head) <= MAX_HEAD_BYTES):
            raise LinkError("the member's answer has a number that cannot be")
        if reason and reason not in set(Unready):
            raise LinkError("the member's answer names a reason that this version does not know")
        return cls(
            member=member,
            release=release,
            epoch=epoch,
            unready=Unready(reason) if reason else None,
            head=head,
        )
