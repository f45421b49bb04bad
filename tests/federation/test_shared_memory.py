"""A round that counts phrases, with the real strategy and real members: what it releases, and what becomes of that."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.federation import inprocess
from typer.testing import CliRunner

from sordino_client.commands import app as client_cli
from sordino_client.training.job import as_ring
from sordino_coordinator.beginning import count_due
from sordino_coordinator.control import desk
from sordino_coordinator.control.audit import newest
from sordino_coordinator.control.orders import read_orders
from sordino_coordinator.federation import Federation
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.charter import SharedMemoryPolicy
from sordino_platform.durable import make_folder, write_file
from sordino_platform.flower.phases import Phase
from sordino_platform.identity import Identity
from sordino_platform.proposal import quantiser_for
from sordino_platform.release import ReleaseStore
from sordino_platform.release.manifest import MemoryMark
from sordino_privacy.counts import CountPlan, SharedMemory
from sordino_privacy.counts.cells import Cells
from sordino_privacy.counts.counting import counted, noised, noised_in_shares
from sordino_privacy.errors import StorageError
from sordino_privacy.keystream import Keystream
from sordino_privacy.secagg import MaskedStatistics

COUNTS = {
    "bits": 12,
    # So little noise beside the counts that no test hangs on its luck: the threshold is the witnesses'.
    "phrases": 2,
    "noise_multiplier": 2.0,
    "largest_count": 60,
    "window": 64,
    "windows_per_unit": 2,
    "delta": 1e-6,
}
COMMON, ALONE = np.array([5, 3000]), np.array([700, 2900])
"""The cells of a phrase that every member holds in more units than it may count, and of one that alder alone does."""


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("founded") / "federation"
    inprocess.found_in(folder, shared_memory=SharedMemoryPolicy(), counts=COUNTS)
    return folder


def store_counts(member: Any, federation: Federation, round: int, units: list[Cells]) -> None:
    """Puts a member's noised counts where its trainer would leave them."""
    plan = federation.plan
    assert isinstance(plan, CountPlan)
    membership, noise = federation.membership, member.noise(plan)
    quantiser = quantiser_for(
        federation.config, plan, members=len(membership.members), shares=membership.shares
    )
    total = counted(units, plan)
    if noise is None:
        vector = noised(total, plan, Keystream.from_system())
        quantised = quantiser.quantise(vector, 1.0, MaskedStatistics(examples=8), secrets.token_bytes)
    else:
        shared = noised_in_shares(total, plan, noise, Keystream.from_system())
        quantised = quantiser.embed(as_ring(shared), 8, secrets.token_bytes)
    place = member.folder / "round" / f"{federation.run}-{round}"
    make_folder(place)
    write_file(place / "quantised.bin", quantised.encode(), secret=True)


def hold_round(
    federation: Federation, members: dict[str, Any], absent: Collection[tuple[Phase, str]] = ()
) -> bool | None:
    """One round, of whatever the coordinator's orders say: counts of the two phrases, or updates of 0.001."""
    grid = inprocess.InProcessGrid(members, run=7)
    grid.absent = {(phase.message_type, name) for phase, name in absent}
    number = federation.rounds.next_round()

    def prepare(message_type: str) -> None:
        if message_type != Phase.TRAIN.message_type:
            return
        for name, member in members.items():
            if isinstance(federation.plan, CountPlan):
                store_counts(member, federation, number, [COMMON] * 500 + [ALONE] * 500 * (name == "alder"))
            else:
                inprocess.store_update(member, federation, number, 0.001)
        grid.on_message = len

    grid.on_message = prepare
    return SecureFedAvg(federation).one_round(grid)


def order(federation: Federation) -> None:
    desk.order_count(federation.folder, newest=federation.releases.head().number)


def mark_of(federation: Federation) -> MemoryMark:
    mark = federation.releases.head().shared_memory
    assert mark is not None
    return mark


def memory_of(member: Any) -> SharedMemory | None:
    found: SharedMemory | None = member.releases.shared_memory()
    return found


def test_a_count_makes_a_release_of_its_own_that_every_member_checks_and_serves(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        assert hold_round(federation, members)
        order(federation)
        assert hold_round(federation, members)
        head = federation.releases.head()
        assert (head.number, head.counted, head.version) == (2, True, "sordino-release/2")
        assert head.vector_hash == federation.releases.manifest(1).vector_hash, "the model stays"
        for member in members.values():
            memory = memory_of(member)
            assert memory is not None
            assert memory.digest() == mark_of(federation).sha256
            assert set(COMMON) <= set(memory.cells.tolist())
            assert not set(ALONE) & set(memory.cells.tolist()), "one member's phrase does not appear"
            (served,) = (member.folder / "completion" / "serving").glob("release-000002-*/shared-memory.bin")
            assert SharedMemory.decode(served.read_bytes()).digest() == memory.digest()
        assert read_orders(federation.folder).count_after is not None, "followed between two rounds"
        assert hold_round(federation, members)
        assert read_orders(federation.folder).count_after is None
        assert not federation.releases.head().counted, "training goes on"
        assert federation.releases.head().shared_memory == head.shared_memory, "and the memory stays in force"


def test_the_ledger_composes_a_count_with_the_trainings(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        assert hold_round(federation, members)
        member = members["birch"]
        before = member.epsilon_spent()
        order(federation)
        assert hold_round(federation, members)
        events = [
            (r.cost.event.sampling_rate, r.cost.event.noise_multiplier) for r in member.ledger.reservations()
        ]
        assert events[1] == (1.0, 2.0), "every unit takes part, once"
        alone = 2.9  # of one Gaussian release of multiplier 2 at delta 1e-6, about
        assert max(before, alone * 0.8) < member.epsilon_spent() < before + alone * 1.2


@pytest.mark.parametrize("phase", [Phase.SHARE, Phase.UPLOAD, Phase.SURVIVORS, Phase.UNMASK])
def test_a_member_that_falls_silent_in_a_count_leaves_the_sum_of_the_others(
    place: Path, phase: Phase
) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        order(federation)
        assert hold_round(federation, members, {(phase, "elm")})
        memory = federation.releases.shared_memory()
        assert memory is not None
        assert memory.survivors == (5 if phase in (Phase.SURVIVORS, Phase.UNMASK) else 4)
        assert set(COMMON) <= set(memory.cells.tolist())


def test_a_count_that_loses_too_many_releases_nothing_and_is_tried_again(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        order(federation)
        assert hold_round(federation, members, {(Phase.SHARE, "elm"), (Phase.SHARE, "dogwood")}) is False
        assert federation.rounds.rounds()[-1].outcome is not Outcome.COMPLETED
        assert federation.releases.head().shared_memory is None
        assert hold_round(federation, members)
        assert federation.releases.head().counted


def test_a_rollback_brings_the_memory_of_then_back_at_every_member(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        order(federation)
        assert hold_round(federation, members)
        first = mark_of(federation)
        order(federation)
        assert hold_round(federation, members)
        second = mark_of(federation)
        assert first != second
        federation.roll_back(1)
        assert hold_round(federation, members)
        assert federation.releases.head().shared_memory == first
        member = members["cedar"]
        memory = memory_of(member)
        assert memory is not None
        assert memory.digest() == first.sha256
        federation.roll_back(0)
        assert hold_round(federation, members)
        assert memory_of(member) is None, "to before the first count: no memory"


def test_a_member_that_missed_the_count_is_shown_how_it_was_made(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        late = members.pop("elm")
        order(federation)
        assert hold_round(federation, members)
        assert hold_round(federation, members)
        assert hold_round(federation, {**members, "elm": late})
        memory = memory_of(late)
        assert memory is not None
        assert memory.digest() == mark_of(federation).sha256


def test_a_count_is_made_once_however_often_the_coordinator_starts_anew(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        order(federation)
        assert hold_round(federation, members)
        federation.rounds.close()
        again = Federation.open(place / "coordinator")  # the order was not taken back yet
        assert hold_round(again, members)
        assert not again.releases.head().counted


def test_a_charter_without_a_shared_memory_allows_no_count(tmp_path: Path) -> None:
    inprocess.found_in(tmp_path / "federation", counts=COUNTS)
    federation = Federation.open(tmp_path / "federation" / "coordinator")
    with inprocess.opened(tmp_path / "federation") as members:
        order(federation)
        assert hold_round(federation, members)
        assert not federation.releases.head().counted
        entries = [entry.action.value for entry in newest(federation.folder, last=20)]
        assert "count_failed" in entries


def test_a_restored_coordinators_releases_keep_the_memory_that_members_hold(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        order(federation)
        assert hold_round(federation, members)
        store = ReleaseStore(
            members["elm"].folder / "releases", Identity.load(place / "members" / "elm").charters
        )
        assert store.verify(weights=True)
        assert store.remembers(mark_of(federation).sha256)


def test_the_command_says_what_is_held_and_what_it_cost(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    folder = place / "members" / "elm"
    runner = CliRunner()

    def said() -> dict[str, Any]:
        result = runner.invoke(client_cli, ["shared", "--folder", str(folder), "--json"])
        assert result.exit_code == 0, result.output
        facts: dict[str, Any] = json.loads(result.output)
        return facts

    assert said()["held"] is False
    with inprocess.opened(place) as members:
        order(federation)
        assert hold_round(federation, members)
    facts = said()
    assert facts["held"] is True
    assert facts["phrases"] == 1
    assert facts["sha256"] == mark_of(federation).sha256.hex()
    assert facts["took_part"] is True
    assert facts["epsilon"] == pytest.approx(facts["epsilon_of_all"])
    assert facts["epsilon_without_it"] == 0
    text = runner.invoke(client_cli, ["shared", "--folder", str(folder)]).output
    assert "about 1 phrases" in text
    assert "cost this member epsilon" in text


def test_a_coordinator_that_dies_between_the_memory_and_its_row_has_neither_and_counts_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        order(federation)

        def dies(*_: object, **__: object) -> None:
            raise StorageError("the disk is full", hint="")

        monkeypatch.setattr(federation.rounds, "close_round", dies)
        with pytest.raises(StorageError):
            hold_round(federation, members)
        assert federation.releases.head().counted, "the release was kept, and its round never committed"
        federation.rounds.close()
        again = Federation.open(place / "coordinator")
        assert again.releases.head().number == 0
        assert again.releases.shared_memory() is None
        assert count_due(again)
        assert hold_round(again, members)
        assert again.releases.head().counted
        assert all(memory_of(member) is not None for member in members.values())
