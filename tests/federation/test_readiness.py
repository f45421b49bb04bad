"""A round that cannot succeed does not begin: every reason a member can have, and what it costs each of the five."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import ArrayRecord
from tests.federation import inprocess
from tests.federation.proposed import charges
from tests.federation.test_charging import Failing

from sordino_client.ledger import Witness
from sordino_client.round.member import Member
from sordino_coordinator.control.view import status_facts
from sordino_coordinator.federation import Federation
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import RoundsFailedError, SecureFedAvg
from sordino_platform.charter.waiting import keep_waiting
from sordino_platform.flower.phases import Phase
from sordino_platform.identity import authority
from sordino_platform.offer import Unready
from sordino_privacy.errors import ConfigurationError

Spoil = Callable[[Member, pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("readiness") / "federation"
    inprocess.found_in(folder, cohort=5)
    return folder


def pause(member: Member, _: pytest.MonkeyPatch) -> None:
    member.participation.pause()


def ask(member: Member, _: pytest.MonkeyPatch) -> None:
    member.participation.mode = "when_asked"


def expire(member: Member, patched: pytest.MonkeyPatch) -> None:
    def require_current(charter: object) -> None:
        if charter is member.charter:
            raise ConfigurationError("the charter has expired")

    member.charter = member.charter.model_copy()
    patched.setattr(type(member.charter), "require_current", require_current)


def hold_an_epoch(member: Member, _: pytest.MonkeyPatch) -> None:
    """An epoch that the root signed and this member's person has not seen yet."""
    place = member.folder.parents[1] / "root"
    authority.begin_epoch(place, privacy=member.charter.privacy.model_copy(update={"largest_epsilon": 9.5}))
    keep_waiting(member.folder, [authority.sign_epoch(place).to_bytes()], member.identity.charters)


def tighten(member: Member, _: pytest.MonkeyPatch) -> None:
    member.settings = member.settings.model_copy(update={"windows_per_unit": 1})


def spend(member: Member, _: pytest.MonkeyPatch) -> None:
    member.ledger.limit(0.01)


def cap(member: Member, _: pytest.MonkeyPatch) -> None:
    member.ledger._budget = member.ledger.budget.__class__(epsilon=8.0, delta=1e-6, epsilon_per_day=0.01)


def lose_rows(member: Member, _: pytest.MonkeyPatch) -> None:
    member.ledger.compare_with(Witness(generation=0, sequence=1000, digest=bytes(32), charges=7))


def lose_base(member: Member, patched: pytest.MonkeyPatch) -> None:
    honest = Member.base

    def base(asked: Member) -> Path | None:
        if asked is member:
            raise ConfigurationError("base_model is not set")
        return honest(asked)

    patched.setattr(Member, "base", base)


def fill_disk(member: Member, patched: pytest.MonkeyPatch) -> None:
    honest = shutil.disk_usage
    full = honest("/")._replace(free=0)
    patched.setattr(
        "sordino_client.round.contribution.shutil.disk_usage",
        lambda path: full if Path(path) == member.folder else honest(path),
    )


def lose_data(member: Member, _: pytest.MonkeyPatch) -> None:
    member.settings = member.settings.model_copy(update={"repositories": [member.folder / "gone"]})


REASONS: dict[Unready, Spoil] = {
    Unready.PAUSED: pause,
    Unready.NOT_ASKED: ask,
    Unready.CHARTER: expire,
    Unready.EPOCH: hold_an_epoch,
    Unready.PLAN: tighten,
    Unready.BUDGET: spend,
    Unready.DAY_CAP: cap,
    Unready.LEDGER: lose_rows,
    Unready.BASE: lose_base,
    Unready.DISK: fill_disk,
    Unready.LOCAL: lose_data,
}


def test_every_reason_is_driven() -> None:
    # A coordinator that was replaced does not wait: it ends (tests/coordinator/test_standby.py).
    assert {*REASONS, Unready.SUPERSEDED} == set(Unready)


@pytest.mark.parametrize("reason", list(REASONS))
def test_whatever_one_member_lacks_no_round_begins_without_it_and_nobody_pays(
    place: Path, federation: Federation, reason: Unready, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All five are needed; elm cannot take part. The coordinator waits, says why, and no message of a round is sent."""
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        REASONS[reason](members["elm"], monkeypatch)
        federation.rounds.note_member("elm", certificate_expires=0.0)

        def stop() -> None:
            while "elm" not in federation.unready:
                time.sleep(0.01)
            federation.stopping.set()

        watcher = threading.Thread(target=stop)
        watcher.start()
        assert SecureFedAvg(federation).one_round(grid) is None
        watcher.join()
        assert charges(members) == dict.fromkeys(members, 0)
        assert {kind for kind, _ in grid.seen} == {"query.hello"}
    assert {name: why for name, why in federation.unready.items() if why} == {"elm": reason}
    (elm,) = [one for one in status_facts(place / "coordinator")["members"] if one["name"] == "elm"]
    assert elm["unready"] == reason.value
    assert federation.rounds.rounds() == []


def test_training_is_cut_short_once_the_floor_cannot_be_met_and_everybody_is_paid_back(
    place: Path, federation: Federation
) -> None:
    """Five are needed and say that they are ready; the second one's trainer dies. The three behind it never train."""
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for name, member in members.items():
            if name == "birch":
                member.worker = Failing(member)
            else:
                inprocess.store_update(member, federation, 1, 0.001)
        strategy = SecureFedAvg(federation)
        assert strategy.one_round(grid) is False
        trained = [name for kind, name in grid.seen if kind == Phase.TRAIN.message_type]
        assert trained == ["alder", "birch"]
        assert charges(members) == {"alder": 1, "birch": 0, "cedar": 0, "dogwood": 0, "elm": 0}
        row = federation.rounds.rounds()[0]
        assert row.outcome is Outcome.ABORTED_COHORT
        assert "birch: refused" in row.reason
        # The next offer ends the round for alder too: what it trained never left.
        federation.stopping.clear()
        members["elm"].participation.pause()
        watcher = threading.Timer(1.0, federation.stopping.set)
        watcher.start()
        assert strategy.one_round(grid) is None
        watcher.join()
        assert charges(members) == dict.fromkeys(members, 0)
        assert not any((members["alder"].folder / "round").iterdir())


def test_rounds_that_fail_back_off_twice_as_long_each_time_and_stop_with_the_reason(
    place: Path, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    defaults = type(federation.settings).model_fields
    assert (defaults["give_up_after"].default, defaults["backoff_seconds"].default) == (5, 60.0)
    federation.desk.defaults = federation.settings.model_copy(
        update={"give_up_after": 5, "backoff_seconds": 60.0, "attempts": 1}
    )
    monkeypatch.setattr(type(federation.desk), "must_wait", lambda _: False)
    monkeypatch.setattr(type(federation.desk), "rest", lambda _, longer=0.0: waits.append(longer))
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for member in members.values():
            member.worker = Failing(member)

        with pytest.raises(RoundsFailedError, match="5 rounds in a row") as failed:
            SecureFedAvg(federation).start(grid, ArrayRecord([federation.weights()]), num_rounds=1)
        assert charges(members) == dict.fromkeys(members, 0)
    assert waits == [60.0, 120.0, 240.0, 480.0]
    assert "alder: refused" in failed.value.message
