"""Whether this member takes part in rounds: the owner's decisions, and the state of the present round.

The coordinator paces the rounds. A member says at each offer whether it is ready (sordino_platform.offer); nothing
trains at a member that is not. It is ready for every round, or, with `participate = "when_asked"`, for one round each
time a person agrees. An agreement is to one offer, by run, round and plan, and names the most epsilon that may be spent
in all after that round. A proposal of another round, or one that costs more, is refused, whatever was offered. A pause
holds until it is lifted, over restarts too; an agreement does not. A member that paused or withdrew answers nothing
more of the round, in any phase.

Safe to share between threads: the link's handler, the trainer's progress and the control server meet here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sordino_client.round.folder import RoundFolder, prune_rounds
from sordino_platform.durable import write_file
from sordino_platform.offer import Offer, Unready
from sordino_privacy.errors import RefusalError, UsageError

Mode = Literal["every_round", "when_asked"]
PAUSED_FILE = "paused"
TOLERANCE = 1e-6  # an epsilon goes to a person's screen and back as a decimal number


Wanted = tuple[str, int, bytes]
"""Which round, by run, number and the plan's digest."""


class UnwillingError(RefusalError):
    """The member's owner does not want this now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A person's agreement to take part in the round that `offer` names (`Offer.id`). After it, no more than
    `epsilon_after` may be spent in all as the federation holds, and no more than the other number if all others collude
    with the coordinator (None: the first number, as when all noise is the member's own)."""

    offer: str
    round: int
    epsilon_after: float
    epsilon_if_others_collude_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What the agent does in a round: `idle`, or a phase; `step` of `steps` and seconds left while it trains."""

    phase: str = "idle"
    round: int = 0
    step: int = 0
    steps: int = 0
    seconds_left: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the last round ended here. `charged`: whether privacy was charged for it, from the training on; a charge of
    which nothing left is given back later, and still counts here."""

    round: int
    outcome: str
    message: str
    charged: bool


class Participation:
    """One member's. `changed` is called after each change, on whatever thread made it."""

    def __init__(self, folder: Path, mode: Mode) -> None:
        self._folder, self._flag = folder, folder / PAUSED_FILE
        self._lock = threading.RLock()
        self.mode: Mode = mode
        self.paused = self._flag.exists()
        self.offer: Offer | None = None
        self.agreed: Consent | None = None
        self._agreed_to: Wanted | None = None
        self.activity = Activity()
        self.last: Ended | None = None
        self.unready: Unready | None = None
        self.revision = 0
        self.changed: Callable[[], None] = lambda: None
        self._withdrawn: tuple[str, int] | None = None
        self._round: tuple[str, int] | None = None
        self._charged = False
        self._entry, self._abandoned = 0, False

    def note_unready(self, reason: Unready | None) -> bool:
        """Notes the answer to the last offer (None: ready). Returns whether it differs from the one before."""
        with self._lock:
            changed, self.unready = self.unready is not reason, reason
            return changed

    @property
    def ready(self) -> bool:
        """The answer to an offer."""
        with self._lock:
            return not self.paused and (
                self.mode == "every_round"
                or (self._agreed_to is not None and self._agreed_to == self._offered)
            )

    @property
    def _offered(self) -> Wanted | None:
        return None if self.offer is None else (self.offer.run, self.offer.round, self.offer.plan.digest())

    # ----------------------------------------------------------------------------------------- what the owner decides

    def agree(self, agreement: Consent) -> None:
        """Takes part in the offered round. Raises UsageError when there is no such offer, or a pause."""
        with self._lock:
            if self.paused:
                raise UsageError("this member is paused", hint="resume first")
            if self.offer is None or self.offer.id != agreement.offer:
                raise UsageError(
                    f"round {agreement.round} is not offered now, or not under the plan that was shown",
                    hint="look at the present offer and its cost",
                )
            self.agreed, self._agreed_to, self._withdrawn = agreement, self._offered, None
            self._change()

    def withdraw(self) -> None:
        """Takes an agreement back. A charge is given back unless the upload had begun: what was sent cannot be called
        back."""
        with self._lock:
            self.agreed, self._agreed_to = None, None
            self._withdrawn = self._round or self._withdrawn
            if self.activity.phase == "idle":  # else the round's own handler removes it when it ends
                self.tidy()
            self._change()

    def pause(self) -> None:
        """Takes part in nothing until `resume`. Raises StorageError when that cannot be kept."""
        with self._lock:
            write_file(self._flag, b"paused by the member\n", secret=True)
            self.paused = True
            self.withdraw()

    def resume(self) -> None:
        """Lifts a pause."""
        with self._lock:
            self._flag.unlink(missing_ok=True)
            self.paused = False
            self._change()

    # --------------------------------------------------------------------------------------- what the coordinator does

    def offered(self, offer: Offer | None) -> None:
        """Notes the present offer; None when the link is down. An offer of another round ends the one before."""
        with self._lock:
            before, self.offer = self.offer, offer
            if self.activity.phase != "idle":
                if offer is not None and offer.round != self.activity.round:
                    self.ended(self.activity.round, "aborted", "the coordinator made no new model of it")
                elif offer is None or offer.round == self.activity.round:
                    self.activity = Activity()  # another attempt of the same round will follow
                    self._change()
            if offer is not None and not self.paused:
                prune_rounds(self._folder, but=RoundFolder.of(self._folder, offer.run, offer.round))
            if offer != before:
                self._change()

    def require_willing(self, *, wanted: Wanted | None = None) -> None:
        """Raises UnwillingError: paused, withdrawn from the round `wanted`, or that round under that plan is not the
        one that was agreed to."""
        with self._lock:
            if self.paused:
                raise UnwillingError("this member is paused")
            if wanted is None:
                return
            if self._withdrawn == wanted[:2]:
                raise UnwillingError("this member withdrew from the round")
            if self.mode == "when_asked" and self._agreed_to != wanted:
                raise UnwillingError(
                    "nobody at this member agreed to this round under this plan",
                    hint="look at the present offer and its cost",
                )

    def admit(
        self, run: str, round: int, plan: bytes, *, epsilon_after: float, epsilon_alone_after: float = 0.0
    ) -> None:
        """Checks that a proposal, by its plan's digest, may go on to training; the two numbers are those of Consent.
        Raises UnwillingError as `require_willing` does, and if the round costs more than was agreed to."""
        with self._lock:
            self.require_willing(wanted=(run, round, plan))
            agreed = self.agreed
            if agreed is not None and self._agreed_to == (run, round, plan):
                if not epsilon_after <= agreed.epsilon_after + TOLERANCE:
                    raise UnwillingError(
                        f"the round would bring the epsilon to {epsilon_after:.3f}; "
                        f"{agreed.epsilon_after:.3f} was agreed to",
                        hint="look at the cost of the present offer and agree again",
                    )
                most = agreed.epsilon_if_others_collude_after or agreed.epsilon_after
                if not epsilon_alone_after <= most + TOLERANCE:
                    raise UnwillingError(
                        f"the round would bring the epsilon to {epsilon_alone_after:.3f} if all others collude with "
                        f"the coordinator; {most:.3f} was agreed to",
                        hint="look at both costs of the present offer and agree again",
                    )
            self._round = (run, round)

    def abandon(self, entry: int) -> bool:
        """The coordinator no longer waits for the phase with this number (see `entered`): it ended the round, or the
        time is up. Returns whether that is the present phase."""
        with self._lock:
            self._abandoned = self._abandoned or entry == self._entry
            return entry == self._entry

    def require_wanted(self) -> None:
        """Raises UnwillingError once the present phase was abandoned."""
        with self._lock:
            if self._abandoned:
                raise UnwillingError("nobody waits for this round any more: it ended without this member")

    def entered(self, phase: str, round: int) -> int:
        """A phase of a round began; its number, for `abandon`."""
        with self._lock:
            self._entry, self._abandoned = self._entry + 1, False
            self.activity = Activity(phase=phase, round=round)
            self._change()
            return self._entry

    def trained(self, step: int, steps: int, seconds_left: float) -> None:
        """A step of the local training is done. Raises RefusalError, which ends it, when the member has withdrawn."""
        with self._lock:
            self.require_wanted()
            if self._withdrawn is not None and self._withdrawn == self._round:
                raise UnwillingError("this member withdrew from the round")
            self.activity = Activity(
                phase="train", round=self.activity.round, step=step, steps=steps, seconds_left=seconds_left
            )
            self._change()

    def charged(self) -> None:
        """The round's privacy was charged to the ledger."""
        with self._lock:
            self._charged = True
            self._change()

    def ended(self, round: int, outcome: str, message: str = "") -> None:
        """The round is over for this member; an agreement is used up."""
        with self._lock:
            self.last = Ended(round=round, outcome=outcome, message=message, charged=self._charged)
            self.agreed, self._agreed_to = None, None
            self.activity, self._round, self._charged = Activity(), None, False
            self._change()

    def tidy(self) -> None:
        """Removes the folders of rounds that this member left: all of them if it is paused, else the one that it
        withdrew from."""
        with self._lock:
            if self.paused:
                prune_rounds(self._folder)
            elif self._withdrawn is not None:
                RoundFolder.of(self._folder, *self._withdrawn).remove()

    def touch(self) -> None:
        """Tells the watcher that something shown beside this has changed: the link, the release, the privacy spent."""
        with self._lock:
            self._change()

    def _change(self) -> None:
        self.revision += 1
        self.changed()
