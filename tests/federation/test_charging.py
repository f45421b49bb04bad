"""What a round costs its members when it comes to nothing: real members, ledgers and strategy, without the wire."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.federation import inprocess
from tests.federation.proposed import charges, offer_of, proposal_of

from sordino_client.round.contribution import contribute
from sordino_client.round.member import Member
from sordino_client.round.participation import UnwillingError
from sordino_client.status import read_agent_status, read_ledger
from sordino_client.training import TrainingJob, TrainingProgress, TrainingWorker
from sordino_client.training.job import TrainingError
from sordino_coordinator.federation import Federation
from sordino_coordinator.gathering import hello
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.flower.phases import Phase
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import BudgetError, DataError, SordinoError, StorageError
from sordino_privacy.secagg import Step


def module(number: int) -> str:
    """Source that shares next to nothing with that of another number."""
    draw = random.Random(number)
    words = ["".join(draw.choices("abcdefghiklmnoprstuw", k=7)) for _ in range(40)]
    return "".join(
        f"def {a}({b}, {c}):\n    {d} = {b} + {c}.{a}\n    return {d}\n\n"
        for a, b, c, d in (draw.sample(words, 4) for _ in range(12))
    )


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("charging")
    folder = base / "federation"
    inprocess.found_in(folder, of_members={"minimum_units": 4, "heldout_share": 0.0})
    inprocess.give_code(folder, base / "code", module)
    return folder


class Failing(TrainingWorker):
    """A worker whose child always dies before it has an update; `seen` are the charges that stood at that moment."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.member, self.seen = member, 0

    def warm(self) -> None:
        pass

    def train(self, job: TrainingJob, on_progress: object = None) -> object:  # type: ignore[override]
        self.seen = len(self.member.ledger.reservations())
        raise TrainingError("the trainer was ended by SIGKILL before it had an update")


def test_a_training_that_ends_without_an_update_is_charged_before_and_given_back_after(
    place: Path, federation: Federation
) -> None:
    with Member.open(place / "members" / "alder") as member:
        member.worker = worker = Failing(member)
        head = member.ledger.head()
        with pytest.raises(TrainingError):
            contribute(member, proposal_of(federation), federation.weights())
        assert worker.seen == 1, "the charge was durable before training began"
        assert member.epsilon_spent() == 0
        assert not any((member.folder / "round").iterdir())
        assert member.ledger.head().sequence == head.sequence + 2


class Abandoned(Failing):
    """A worker that is told in the middle of its training that nobody waits for the round any more."""

    entry = 0

    def train(self, job: TrainingJob, on_progress: object = None) -> object:  # type: ignore[override]
        self.seen = len(self.member.ledger.reservations())
        assert self.member.participation.abandon(self.entry)
        assert callable(on_progress)
        on_progress(TrainingProgress(step=1, steps=9, tokens_per_second=1.0, seconds_left=8.0, loss=1.0))
        raise AssertionError("the first step after it ends the training")


def test_training_for_a_round_that_ended_is_withdrawn_at_once_and_costs_nothing(
    place: Path, federation: Federation
) -> None:
    with Member.open(place / "members" / "alder") as member:
        wish = member.participation
        member.on_progress = lambda progress: wish.trained(progress.step, progress.steps, 0.0)
        member.worker = worker = Abandoned(member)
        worker.entry = wish.entered("train", 1)
        with pytest.raises(UnwillingError, match="nobody waits"):
            contribute(member, proposal_of(federation), federation.weights())
        assert worker.seen == 1
        assert not member.ledger.reservations()
        assert not any((member.folder / "round").iterdir())
        assert not wish.abandon(worker.entry - 1), "an older phase's end is not the present one's"
        wish.entered("train", 2)
        wish.require_wanted()


def spoil_data(member: Member, patched: pytest.MonkeyPatch) -> None:
    gone = member.folder / "gone"
    member.settings = member.settings.model_copy(update={"repositories": [gone]})


def spoil_units(member: Member, patched: pytest.MonkeyPatch) -> None:
    member.settings = member.settings.model_copy(update={"minimum_units": 1000})


def spoil_disk(member: Member, patched: pytest.MonkeyPatch) -> None:
    patched.setattr("sordino_client.round.contribution.SPARE_BYTES", 1 << 60)  # more than any disk has


def spoil_budget(member: Member, patched: pytest.MonkeyPatch) -> None:
    member.ledger.limit(0.01)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (spoil_data, DataError),
        (spoil_units, DataError),
        (spoil_disk, StorageError),
        (spoil_budget, BudgetError),
    ],
)
def test_whatever_refuses_before_training_writes_no_row(
    place: Path,
    federation: Federation,
    spoil: Callable[[Member, pytest.MonkeyPatch], None],
    error: type[SordinoError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Member.open(place / "members" / "alder") as member:
        head = member.ledger.head()
        member.worker = worker = Failing(member)
        spoil(member, monkeypatch)
        with pytest.raises(error):
            contribute(member, proposal_of(federation), federation.weights())
        assert member.ledger.head() == head
        assert worker.seen == 0


def test_a_round_that_died_before_the_upload_costs_nobody_anything(
    place: Path, federation: Federation
) -> None:
    strategy = SecureFedAvg(federation)
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for member in members.values():
            inprocess.store_update(member, federation, 1, 0.001)
        grid.absent = {(Phase.SHARE.message_type, name) for name in ("elm", "cedar")}
        assert strategy.one_round(grid) is False
        assert set(charges(members).values()) == {1}, "held: another attempt might have followed"
        grid.absent = set()
        for (
            member
        ) in members.values():  # the next round's update; the first one's is destroyed with its charge
            assert member.ledger.held() == ((federation.run, 1),)
        assert strategy.one_round(grid) is False or True
        for member in members.values():
            assert (federation.run, 1) not in {(r.run, r.round) for r in member.ledger.reservations()}
            assert not (member.folder / "round" / f"{federation.run}-1").exists()
    assert federation.rounds.rounds()[0].outcome is Outcome.ABORTED_DROPOUTS


def test_a_round_that_died_after_the_upload_stays_charged(place: Path, federation: Federation) -> None:
    strategy = SecureFedAvg(federation)
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for member in members.values():
            inprocess.store_update(member, federation, 1, 0.001)
        grid.absent = {(Phase.SURVIVORS.message_type, name) for name in ("elm", "cedar", "birch")}
        assert strategy.one_round(grid) is False
        assert all(member.ledger.held() == () for member in members.values())
        spent = {name: member.epsilon_spent() for name, member in members.items()}
        assert min(spent.values()) > 0
        for member in members.values():
            member.worker = Failing(member)
        strategy.one_round(grid)
        assert {name: member.epsilon_spent() for name, member in members.items()} == spent


def test_twenty_two_doomed_rounds_drain_nothing_and_meet_the_cap_of_the_day(
    place: Path, federation: Federation
) -> None:
    """As it was found: each round ends before the upload, and the budget was gone after twenty-two."""
    settings = place / "members" / "alder" / "member.toml"
    settings.write_text(settings.read_text().replace("rounds_per_day = 100000", "rounds_per_day = 10"))
    with Member.open(place / "members" / "alder") as member:
        begun = 0
        for round in range(1, 23):
            inprocess.store_update(member, federation, round, 0.001)
            with contextlib.suppress(BudgetError):
                contribute(member, proposal_of(federation, round=round), federation.weights())
                begun += 1
            assert len(member.ledger.reservations()) <= 1
        assert begun == 10
        assert member.epsilon_spent() == 0, "each was given back when the next was proposed"


def test_a_coordinator_that_moves_on_in_the_middle_of_a_round_gets_no_upload_of_it(
    place: Path, federation: Federation
) -> None:
    """It offers another round between TRAIN and UPLOAD, so that the charge is given back, and asks for the upload."""
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for member in members.values():
            inprocess.store_update(member, federation, 1, 0.001)
        other = offer_of(federation, round=99)
        moved = False

        def move_on(kind: str) -> None:
            nonlocal moved
            if kind == Phase.UPLOAD.message_type and not moved:
                moved = True
                assert {len(member.ledger.held()) for member in members.values()} == {1}
                hello(federation, grid, list(grid.get_node_ids()), other)

        grid.on_message = move_on
        assert SecureFedAvg(federation).one_round(grid) is False
        assert moved
        for member in members.values():
            steps = {entry.step for entry in member.ledger.entries("test", federation.run, 1)}
            assert steps == {Step.ADVERTISED}, "nothing of the round left, and nothing of it is charged"
            assert member.epsilon_spent() == 0


def test_status_and_ledger_say_the_same_epsilon_whatever_the_agent_last_wrote(place: Path) -> None:
    folder = place / "members" / "alder"
    with Member.open(folder) as member:
        member.ledger.reserve("run", 1, TrainingPlan.parse(dict(inprocess.PLAN)))
        spent = member.epsilon_spent()
    assert spent > 2
    stale = {"member": "alder", "pid": 1, "doing": "idle", "release": -1, "epsilon_spent": 0.0}
    (folder / "status.json").write_text(json.dumps(stale))
    assert read_agent_status(folder)["epsilon_spent"] == read_ledger(folder)["epsilon_spent"] == spent


def test_the_days_caps_are_on_unless_the_members_owner_says_otherwise(place: Path) -> None:
    settings = place / "members" / "alder" / "member.toml"
    kept = [line for line in settings.read_text().splitlines() if "_per_day" not in line]
    settings.write_text("\n".join(kept) + "\n")
    with Member.open(place / "members" / "alder") as member:
        assert (member.ledger.budget.epsilon_per_day, member.ledger.budget.rounds_per_day) == (4.0, 24)
