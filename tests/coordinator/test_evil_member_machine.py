"""An evil member with a true certificate says anything, in any phase: the honest complete every round.

What `World.play` checks after each round: it was completed with all honest members; nobody but the evil one was
dropped, blamed or excluded; nothing was refused for a reason that nobody foresaw; nothing is left in any queue.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from tests.coordinator import evil_member as evil
from tests.coordinator.evil_member import ALWAYS_PROVEN, EVIL, HONEST, NUMBERS, PLAIN, SPOKEN, World

from sordino_client.round.member import Member
from sordino_coordinator import exchange
from sordino_coordinator.boundary import judge
from sordino_coordinator.metrics import RejectionReason
from sordino_platform.flower import codec
from sordino_platform.flower.phases import HELLO, Phase
from sordino_platform.link import Loss
from sordino_privacy.secagg import BadParcelError, CoordinatorSession
from sordino_privacy.secagg.coordinator import mustering

LIES = st.one_of(
    st.sampled_from(PLAIN).map(evil.forged),
    st.binary(max_size=400).map(evil.noise),
    st.builds(evil.edited, st.integers(0, 1 << 20), st.integers(0, 40), st.binary(max_size=40)),
    st.integers(0, 20).map(evil.replayed),
    st.sampled_from(Loss).map(evil.lost),
)


class EvilMember(RuleBasedStateMachine):
    """Lies are prepared message by message, then a round is played with them."""

    place: Path

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self._patched = pytest.MonkeyPatch()
        # Each example is a machine of its own, and none loses power: that is tested where processes are killed.
        self._patched.setenv("XDG_STATE_HOME", str(self._folder / "state"))
        self._patched.setattr(os, "fsync", lambda _: None)
        shutil.copytree(self.place, self._folder / "federation")
        self._opening = World.opened(self._folder / "federation")
        self.world = self._opening.__enter__()
        self.script: dict[str, evil.Lie] = {}

    def teardown(self) -> None:
        self._opening.__exit__(None, None, None)
        self._patched.undo()
        shutil.rmtree(self._folder)

    @rule(kind=st.sampled_from(SPOKEN), lie=LIES)
    def prepares(self, kind: str, lie: evil.Lie) -> None:
        self.script[kind] = lie

    @rule(name=st.sampled_from(sorted(NUMBERS)))
    def greets_with_an_impossible_number(self, name: str) -> None:
        self.script[HELLO] = evil.forged(name)

    @rule(hits=st.sets(st.sampled_from(HONEST), min_size=1))
    def prepares_shares_that_do_not_open(self, hits: set[str]) -> None:
        self.script[Phase.SHARE.message_type] = evil.bad_shares(tuple(hits))

    @rule(kind=st.sampled_from(sorted(ALWAYS_PROVEN)))
    def prepares_what_proves_itself(self, kind: str) -> None:
        self.script[kind] = ALWAYS_PROVEN[kind]

    @precondition(lambda self: self.script)
    @rule()
    def plays(self) -> None:
        script, self.script = self.script, {}
        self.world.play(script)

    @precondition(lambda self: self.world.federation.cheaters)
    @rule()
    def is_asked_again_after_a_restart(self) -> None:
        self.world.forgive()


def steps(place: Path, *, examples: int, each: int) -> None:
    machine = type("Machine", (EvilMember,), {"place": place})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=each,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(300)
def test_whatever_it_says_for_some_steps_the_honest_complete_every_round(founded: Path) -> None:
    steps(founded, examples=4, each=30)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_whatever_it_says_for_thousands_of_steps_the_honest_complete_every_round(founded: Path) -> None:
    steps(founded, examples=40, each=100)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", SPOKEN)
def test_every_forgery_in_every_phase_costs_the_evil_member_only(
    place: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the forgeries each, so that all phases together meet every one."""
    if kind in {Phase.MUSTER.message_type, Phase.SOUND.message_type}:
        monkeypatch.setattr(mustering, "MUSTERED_ABOVE", 2)  # five members are a large cohort then
    share = PLAIN[SPOKEN.index(kind) % 4 :: 4]
    with World.opened(place) as world:
        for name in (*share, *(NUMBERS if kind == HELLO else ())):
            assert world.play({kind: evil.forged(name)}) == (kind,)
            row = world.federation.rounds.rounds()[-1]
            assert row.dropped == ({} if kind == HELLO else {EVIL: "invalid"})


@pytest.mark.parametrize("kind", ALWAYS_PROVEN)
def test_what_proves_itself_excludes_the_evil_member_until_a_restart(place: Path, kind: str) -> None:
    with World.opened(place) as world:
        world.play({kind: ALWAYS_PROVEN[kind]})
        assert world.federation.cheaters == {EVIL}
        assert world.count("sordino_members_excluded") == 1
        world.play({})
        assert world.federation.rounds.rounds()[-1].members == HONEST
        world.forgive()
        world.play({})
        assert EVIL in world.federation.rounds.rounds()[-1].members


def no_shape(_: object) -> None:
    """The old decoder: whatever Flower takes."""


def refuses(member: Any, *_: object) -> None:
    raise BadParcelError("an old member: it refuses, and shows nothing", culprit=EVIL)


def books_the_refusal(self: CoordinatorSession, sender: str, message: bytes) -> None:
    raise BadParcelError("an old coordinator: whoever complains has refused", culprit=sender)


def only_what_was_foreseen(*words: Any, **more: Any) -> Any:
    """The old boundary: an exception that is none of ours goes on."""
    item = judge(*words, **more)
    if getattr(item, "rejected", None) is RejectionReason.UNEXPECTED:
        raise RuntimeError(item.error)  # type: ignore[union-attr]
    return item


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], dict[str, evil.Lie]]] = {
    "the shape of a message is not checked": (
        lambda patch: patch.setattr(codec, "require_shape", no_shape),
        {Phase.UPLOAD.message_type: evil.forged("a shape without dimensions")},
    ),
    "what nobody foresaw goes on": (
        lambda patch: (
            patch.setattr(exchange, "judge", only_what_was_foreseen),
            patch.setattr(codec, "require_shape", no_shape),
        )[0],
        {Phase.UPLOAD.message_type: evil.forged("a shape without dimensions")},
    ),
    "a complaint counts as a refusal": (
        lambda patch: patch.setattr(CoordinatorSession, "accept_complaint", books_the_refusal),
        {Phase.SHARE.message_type: evil.bad_shares(HONEST)},
    ),
    "a cheated member refuses": (
        lambda patch: patch.setattr(Member, "cheated", refuses),
        {Phase.SHARE.message_type: evil.bad_shares(HONEST)},
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_old_fault_put_back_is_noticed(
    place: Path, mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_back, script = MUTANTS[mutant]
    with World.opened(place) as world:
        put_back(monkeypatch)
        with pytest.raises(Exception, match=r".*"):
            world.play(script)
