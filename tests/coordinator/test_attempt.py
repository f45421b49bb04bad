"""An attempt is a list of phases that anybody can hold: it sends nothing, and goes on with whom the session has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message
from tests.federation import inprocess

from sordino_coordinator.attempt import Attempt
from sordino_coordinator.boundary import LostMember, MemberReply
from sordino_coordinator.federation import Federation
from sordino_coordinator.gathering import gather
from sordino_coordinator.holding import PhaseStep
from sordino_coordinator.ongoing import OngoingRound, RoundAbortedError
from sordino_coordinator.rounds import Outcome
from sordino_platform.flower.phases import Fields, Phase, node_id

PHASES = [Phase.TRAIN, Phase.SHARE, Phase.UPLOAD, Phase.SURVIVORS, Phase.UNMASK]


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    inprocess.found_in(tmp_path)
    return Federation.open(tmp_path / "coordinator")


def hold(grid: inprocess.InProcessGrid, step: PhaseStep, *, without: str = "") -> None:
    """Holds one phase by hand: each member but one is told, and its answer accepted."""
    for name in sorted(set(step.members) - {without}):
        message = Message(step.content(name), node_id(name), step.phase.message_type, group_id="1")
        (reply,) = grid.send_and_receive([message])
        step.accept(MemberReply(member=name, fields=Fields(reply)))


def begun(federation: Federation, grid: inprocess.InProcessGrid) -> tuple[Attempt, OngoingRound]:
    for member in grid.members.values():
        inprocess.store_update(member, federation, 1, 0.001)
    nodes, held = gather(federation, grid)
    round = OngoingRound(federation.rounds.open_round(federation.run), nodes, held, frozenset(nodes))
    return Attempt(federation, round), round


def test_phases_that_are_held_by_hand_lead_to_the_sum_of_whoever_answered(
    tmp_path: Path, federation: Federation
) -> None:
    """elm goes after it shared its keys: the phases that follow ask the others only, and the sum is theirs."""
    with inprocess.opened(tmp_path) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        attempt, round = begun(federation, grid)
        seen = []
        for step in attempt.phases():
            assert isinstance(step, PhaseStep)
            seen.append((step.phase, frozenset(step.members)))
            hold(grid, step, without="elm" if step.phase is Phase.UPLOAD else "")
        opened = attempt.open()
    everybody, others = frozenset(inprocess.NAMES), frozenset(inprocess.NAMES) - {"elm"}
    assert seen == [(phase, everybody if phase in PHASES[:3] else others) for phase in PHASES]
    assert round.cohort == tuple(sorted(everybody))
    assert set(opened.survivors) == others
    np.testing.assert_allclose(opened.totals.mean(), 0.001, atol=1e-4)


def test_an_attempt_without_answers_ends_with_the_outcome_of_the_phase(
    tmp_path: Path, federation: Federation
) -> None:
    with inprocess.opened(tmp_path) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        attempt, round = begun(federation, grid)
        phases = attempt.phases()
        next(phases)
        with pytest.raises(RoundAbortedError) as nobody:
            next(phases)
        assert nobody.value.outcome is Outcome.ABORTED_COHORT
        round.attempt = 1
        phases = Attempt(federation, round).phases()
        step = next(phases)
        assert not isinstance(step, LostMember)
        hold(grid, step)
        next(phases)
        with pytest.raises(RoundAbortedError) as silence:
            next(phases)
        assert silence.value.outcome is Outcome.ABORTED_DROPOUTS
