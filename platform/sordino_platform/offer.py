"""The coordinator's offer to a member before a round, and the member's answer: ready, or the reason why not.

An offer binds nobody. It shows a person what the next round would be and cost. The later proposal is checked against
the charter, the budget and the person's agreement, as if no offer had been made. A member that already knows that it
would refuse says so now. So nobody trains and nobody is charged for a round that could not succeed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flwr.app import RecordDict

from sordino_platform.flower.phases import Fields, Scalar, pack
from sordino_platform.ledger_head import MAX_HEAD_BYTES
from sordino_platform.plans import Plan, parse_plan
from sordino_platform.tenure import optional_tenure
from sordino_privacy.errors import LinkError

MAX_COUNT = 1 << 32
MAX_RUN_CHARACTERS = 64
COUNTS = ("round", "release", "connected", "ready", "required", "members")


class Unready(StrEnum):
    """Why a member takes no part in a round like the offered one. A closed list that reveals no data.

    All but `LOCAL` follow from the offer, the charter, the member's settings and its public history of rounds. `LOCAL`
    covers every reason that depends on the repositories (unreadable, too few units) or on the trainer. It is a single
    label, so that it reveals no more about the code than silence would.
    """

    PAUSED = "paused"
    NOT_ASKED = "not_asked"
    CHARTER = "charter"
    EPOCH = "epoch"
    PLAN = "plan"
    BUDGET = "budget"
    DAY_CAP = "day_cap"
    LEDGER = "ledger"
    BASE = "base"
    DISK = "disk"
    SUPERSEDED = "superseded"
    LOCAL = "local"


STEPS: Final[Mapping[Unready, tuple[str, str]]] = {
    Unready.PAUSED: ("its owner paused it", "ask the owner: it is resumed in the editor"),
    Unready.NOT_ASKED: (
        "its owner has not agreed to this round",
        "ask the owner: the round is offered in the editor",
    ),
    Unready.CHARTER: ("the charter that it holds has expired", "the root's holder signs the next epoch"),
    Unready.EPOCH: ("an epoch of the charter waits for its owner", "ask the owner: sordino doctor says how"),
    Unready.PLAN: (
        "the charter or its own settings do not allow the plan",
        "ask the owner which bound it meets, and change [plan] in coordinator.toml",
    ),
    Unready.BUDGET: (
        "its privacy budget cannot pay for this plan",
        "a plan with more noise or fewer steps costs less; what is spent stays spent",
    ),
    Unready.DAY_CAP: ("its cap for 24 hours is reached", "wait: it is ready again by itself within a day"),
    Unready.LEDGER: ("its privacy ledger is not whole", "ask the owner: sordino client ledger recover"),
    Unready.BASE: (
        "it lacks the base model that the charter names",
        "ask the owner: sordino doctor says how",
    ),
    Unready.DISK: ("its disk has no room for a round", "ask the owner to free some space"),
    Unready.SUPERSEDED: (
        "another machine has taken this coordinator's place",
        "leave this one stopped: docs/guides/standby.md",
    ),
    Unready.LOCAL: (
        "something on its own machine that it tells nobody",
        "ask the owner: sordino doctor names it, there alone",
    ),
}
"""For people who wait for such a member: what the reason means, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The content of a HELLO message.

    `run` and `round` are the names that the next round will have, `release` the newest model. The charter has `members`
    members. `connected` and `ready` count those that are connected and those that were ready when last asked; a round
    needs `required` of them. `head` is the newest signed head of this member's ledger that the coordinator keeps
    (sordino_platform.ledger_head), or empty. `charters` are signed epochs that the member lacks: its owner may have to
    look at them first. `tenure` says which machine this coordinator is, after a takeover (sordino_platform.tenure);
    empty on the first.
    """

    run: str
    round: int
    release: int
    connected: int
    ready: int
    required: int
    members: int
    plan: Plan
    head: bytes = b""
    charters: tuple[bytes, ...] = ()
    tenure: bytes = b""

    def pack(self) -> RecordDict:
        """As Flower records."""
        fields: dict[str, Scalar] = {name: getattr(self, name) for name in COUNTS}
        fields |= {"run": self.run, "plan": self.plan.canonical(), "head": self.head}
        if self.charters:
            fields["charters"] = list(self.charters)
        if self.tenure:
            fields["tenure"] = self.tenure
        return pack(fields)

    @classmethod
    def parse(cls, fields: Fields) -> Offer:
        """Parses the message. Raises LinkError, or what the plan's parser raises."""
        counts = {name: fields.integer(name) for name in COUNTS}
        if not all(0 <= count < MAX_COUNT for count in counts.values()):
            raise LinkError("the coordinator's offer has a count that cannot be")
        run = fields.text("run")
        if len(run) > MAX_RUN_CHARACTERS or not run.isalnum() or not run.isascii():
            raise LinkError("the coordinator's offer names a run that cannot be")
        plan, head = parse_plan(fields.blob("plan")), fields.blob("head")
        if len(head) > MAX_HEAD_BYTES:
            raise LinkError("the coordinator's offer has a ledger head that is too long")
        charters = tuple(fields.blobs("charters")) if "charters" in fields else ()
        tenure = optional_tenure(fields)
        fields.done()
        return cls(run=run, **counts, plan=plan, head=head, charters=charters, tenure=tenure)

    @property
    def id(self) -> str:
        """A name for exactly this round under this plan, 64 hexadecimal digits. A person agrees to this name."""
        text = f"sordino-offer/1\n{self.run}\n{self.round}\n".encode()
        return hashlib.sha256(text + self.plan.digest()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferAnswer:
    """The answer to an offer: who this is, its newest release (-1: none) and epoch, why it is not ready (None: it is),
    the signed head of its ledger, and the tenure that it holds, if that is not the offered one."""

    member: str
    release: int
    epoch: int
    unready: Unready | None
    head: bytes
    tenure: bytes = b""

    def fields(self) -> dict[str, Scalar]:
        """As a message's fields."""
        shown: dict[str, Scalar] = {"tenure": self.tenure} if self.tenure else {}
        return shown | {
            "member": self.member,
            "release": self.release,
            "epoch": self.epoch,
            "unready": str(self.unready or ""),
            "head": self.head,
        }

    @classmethod
    def parse(cls, fields: Fields) -> OfferAnswer:
        """Parses the answer. Raises LinkError for anything that `fields` would not have made."""
        member, release, epoch = fields.text("member"), fields.integer("release"), fields.integer("epoch")
        reason, head, tenure = fields.text("unready"), fields.blob("head"), optional_tenure(fields)
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
            tenure=tenure,
        )
