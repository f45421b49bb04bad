"""The evil coordinator as a state machine: any well-formed message in any order, and what must hold after each.

Nothing is adopted that was not made. One reveal a round, and of a set no smaller than the charter allows. What left is
charged, and nothing is charged that no proposal was answered for. A paused or refusing member's folder is unchanged.
Every refusal is one word of the closed set.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from flwr.app import Message
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.federation.evil_coordinator import EvilCoordinator, folder_hash
from tests.federation.hub import VICTIM
from tests.federation.proposed import offer_of

from sordino_client.round.refusal import WORDS
from sordino_platform.flower.phases import HELLO, Phase, pack
from sordino_platform.provenance import Provenance
from sordino_privacy.errors import SordinoError
from sordino_privacy.secagg.survivors import Claim

KINDS = {
    "roster": Phase.SHARE,
    "delivery": Phase.UPLOAD,
    "claim": Phase.SURVIVORS,
    "opening": Phase.UNMASK,
}
# A refusal of these phases must have changed nothing at all; later ones may have ended a session in memory only.
UNTOUCHED = {Phase.TRAIN, Phase.RESULT}


class EvilMachine(RuleBasedStateMachine):
    """See the module. `founded` is a federation in which nothing has happened."""

    founded: ClassVar[Path]

    @initialize()
    def begin_world(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="sordino-evil-"))
        self.patched = pytest.MonkeyPatch()
        self.patched.setenv(
            "XDG_STATE_HOME", str(self.place / "state")
        )  # each example is a machine of its own
        shutil.copytree(self.founded, self.place / "federation")
        self.evil = EvilCoordinator(self.place / "federation")
        self.reveals: Counter[tuple[str, int]] = Counter()
        self.answered: set[tuple[str, int]] = set()
        self.left: set[tuple[str, int]] = set()
        self.epoch: bytes | None = None
        self.evil.listeners.append(self.heard)
        self.evil.begin()

    def teardown(self) -> None:
        if hasattr(self, "evil"):
            self.evil.close()
            shutil.rmtree(self.place)
            self.patched.undo()

    # ----------------------------------------------------------------------------------------- what the victim says

    def heard(self, phase: Phase | str, reply: Message) -> None:
        """Every reply of the victim, with the folder's hash before the message in `self.before`."""
        now = self.evil.federation.run, self.evil.round
        if reply.has_error():
            assert reply.error.reason in WORDS, reply.error.reason
            if phase in UNTOUCHED and reply.error.reason not in ("epoch", "local", "budget"):
                assert folder_hash(self.evil.home) == self.before, f"{phase} was refused and left something"
            return
        if phase is Phase.TRAIN:
            self.answered.add(now)
        if phase is Phase.UPLOAD:
            self.left.add(self.session_round)
        if phase is Phase.UNMASK:
            self.reveals[self.session_round] += 1
            survivors = Claim.decode(self.claimed).survivors
            assert VICTIM in survivors
            assert len(survivors) >= self.evil.federation.charter.smallest_sum()

    @property
    def session_round(self) -> tuple[str, int]:
        """The round of the last proposal that was answered: the only one in which the victim can say anything."""
        return max(self.answered, key=lambda named: named[1])

    def ready(self) -> None:
        self.before = folder_hash(self.evil.home)
        self.paused = self.evil.member.participation.paused

    def settle(self) -> None:
        if self.paused and self.evil.member.participation.paused:
            assert folder_hash(self.evil.home) == self.before, "a paused member's folder changed"

    def tell(self, act: object) -> None:
        """One act of the coordinator."""
        assert callable(act)
        self.ready()
        act()
        self.settle()

    # ------------------------------------------------------------------------------------------------ the coordinator

    @rule(again=st.booleans())
    def begin(self, again: bool) -> None:
        """A round, or another attempt, that the victim is told of honestly."""
        self.evil.begin(again=again)
        self.tell(self.evil.propose)

    @rule()
    def begin_without(self) -> None:
        """A round of which the victim hears nothing: the next proposal has a gap."""
        attempt = self.evil.begin()
        attempt.victim = b""
        while attempt.stage < 4:
            attempt.advance()

    @rule(count=st.integers(1, 4))
    def advance(self, count: int) -> None:
        """The next phases, honestly."""
        attempt = self.evil.attempt
        assert attempt is not None
        for _ in range(count):
            if attempt.stage == 3 and self.evil.pool["claim"]:
                self.claimed = self.evil.pool["claim"][-1]
            try:
                self.tell(attempt.advance)
            except (
                SordinoError
            ):  # a colluder's or the coordinator's own session ended with the victim's silence
                attempt.stage = 4

    @rule(kind=st.sampled_from(sorted(KINDS)), back=st.integers(1, 4))
    def say_again(self, kind: str, back: int) -> None:
        """Any message of this or an older attempt, at any time."""
        pool = self.evil.pool[kind]
        if len(pool) >= back:
            if kind == "claim":
                self.claimed = pool[-back]
            self.tell(lambda: self.evil.ask(KINDS[kind], pack({kind: pool[-back]})))

    @rule(keep=st.integers(1, 4))
    def shrink(self, keep: int) -> None:
        """A claim of fewer survivors than there were, the victim among them."""
        if self.evil.pool["claim"]:
            claim = Claim.decode(self.evil.pool["claim"][-1])
            mine = [receipt for receipt in claim.receipts if receipt.sender == VICTIM]
            others = [receipt for receipt in claim.receipts if receipt.sender != VICTIM]
            receipts = tuple(sorted((*mine, *others[: keep - 1]), key=lambda receipt: receipt.sender))
            gone = {receipt.sender for receipt in claim.receipts} - {receipt.sender for receipt in receipts}
            small = replace(claim, receipts=receipts, dropped=tuple(sorted({*claim.dropped, *gone})))
            self.claimed = small.encode()
            self.tell(lambda: self.evil.ask(Phase.SURVIVORS, pack({"claim": small.encode()})))

    @rule()
    def result(self) -> None:
        """The newest release's true result, whether the victim had a part in it or not."""
        if self.evil.federation.releases.head().round is not None:
            self.tell(self.evil.result)

    @rule(shape=st.sampled_from(["no round", "rollback", "round", "old evidence"]), proposed=st.booleans())
    def invent(self, shape: str, proposed: bool) -> None:
        """A signed release that nobody made."""
        evil, vector = self.evil, self.evil.poison()
        names = tuple(sorted(member.name for member in evil.federation.charter.members))
        fields: dict[str, object] = {"run": evil.federation.run}
        if shape == "rollback":
            fields |= {"restores": 0}
        elif shape != "no round":
            head = evil.federation.releases.head()
            fields |= {"round": evil.round, "members": names, "transcript_head": head.transcript_head}
        true = evil.federation.records.provenance(after=evil.federation.releases.head().number - 1)
        opened = true.opened if true is not None and shape == "old evidence" else None
        shown = Provenance(manifests=(evil.signed(vector, **fields),), model=vector, opened=opened)
        if proposed:
            self.tell(lambda: evil.propose(provenance=shown, context=evil.poisoned_context(vector)))
        else:
            self.tell(lambda: evil.result(shown))

    @rule()
    def roll_back(self) -> None:
        """A true rollback, to the newest but one."""
        head = self.evil.federation.releases.head().number
        if head >= 2:
            self.evil.federation.roll_back(head - 1)
            self.evil.begin()

    @rule(how=st.sampled_from(["offer", "proposal"]))
    def replace_everybody(self, how: str) -> None:
        """A root-signed epoch without one of the others."""
        if self.epoch is None:
            self.epoch = self.evil.replacing_epoch()
        if how == "offer":
            self.tell(lambda: self.offer((self.epoch,)))
        else:
            context = self.evil.context_under(self.epoch)
            self.tell(lambda: self.evil.propose(charters=(self.epoch,), context=context))

    @rule()
    def hello(self) -> None:
        self.tell(self.offer)

    def offer(self, charters: tuple[bytes, ...] = ()) -> None:
        federation = self.evil.federation
        offer = offer_of(federation, round=self.evil.round, charters=charters)
        self.evil.ask(HELLO, offer.pack())

    # ------------------------------------------------------------------------------------------------------ the owner

    @rule()
    def pause(self) -> None:
        self.evil.member.participation.pause()

    @precondition(lambda self: self.evil.member.participation.paused)
    @rule()
    def resume(self) -> None:
        self.evil.member.participation.resume()

    @rule()
    def withdraw(self) -> None:
        self.evil.member.participation.withdraw()

    @rule()
    def restart(self) -> None:
        self.evil.restart()

    @rule()
    def copy(self) -> None:
        self.evil.copy()

    @rule()
    def restore(self) -> None:
        self.evil.restore()

    # -------------------------------------------------------------------------------------------------- what must hold

    @invariant()
    def nothing_is_adopted_that_was_not_made(self) -> None:
        if hasattr(self, "evil"):
            releases = self.evil.member.releases
            for signed in releases.chain():
                if releases.holds(signed.manifest.number):
                    assert signed.manifest.vector_hash in self.evil.truth

    @invariant()
    def no_epoch_is_in_force_that_nobody_accepted(self) -> None:
        if hasattr(self, "evil"):
            assert self.evil.member.charter.epoch == self.evil.member.identity.charter.epoch == 1

    @invariant()
    def a_round_is_opened_once(self) -> None:
        if hasattr(self, "evil"):
            assert max(self.reveals.values(), default=0) <= 1

    @invariant()
    def what_left_is_charged_and_nothing_is_charged_that_was_not_asked_for(self) -> None:
        if hasattr(self, "evil"):
            ledger = self.evil.member.ledger
            charged = {(held.run, held.round) for held in ledger.reservations()}
            assert charged <= self.answered
            if ledger.whole:
                assert self.left <= charged
