"""The value of a sum, against the composed product: a coordinator with its true key that publishes another sum, and a
member with a true certificate that sends too much, under either `update_check`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from tests.federation import inprocess

from sordino_client.round.member import Member
from sordino_coordinator.federation import Federation
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.charter import PrivacyPolicy
from sordino_platform.flower.phases import Phase
from sordino_platform.proposal import norm_limit, quantiser_for
from sordino_privacy.secagg import AggregateSum, CoordinatorSession, MemberSession
from sordino_privacy.secagg.coordinator.opening import OpenedPhase, RevealPhase
from sordino_privacy.secagg.sketch import Sketch

LIAR, HONEST = "elm", 0.0002
Check = Literal["sum", "norm"]


@contextlib.contextmanager
def federation(folder: Path, check: Check = "sum") -> Iterator[tuple[Federation, dict[str, Member]]]:
    inprocess.found_in(folder, privacy=PrivacyPolicy(update_check=check), attempts=1)
    hub = Federation.open(folder / "coordinator")
    with inprocess.opened(folder) as members:
        yield hub, members


def one_round(
    hub: Federation, members: dict[str, Member], *, liar: float = HONEST, silent: tuple[str, ...] = ()
) -> bool | None:
    """A round in which everybody's update is a small constant, and the liar's another."""
    number = hub.rounds.next_round()
    grid = inprocess.InProcessGrid(members, run=7)
    grid.absent = {(Phase.UNMASK.message_type, name) for name in silent}
    for name, member in members.items():
        inprocess.store_update(member, hub, number, liar if name == LIAR else HONEST)
    return SecureFedAvg(hub).one_round(grid)


def taken(members: dict[str, Member]) -> set[int]:
    return {member.newest_release() for member in members.values()}


def long_update(hub: Federation, factor: float) -> float:
    """The constant whose update is `factor` times an honest limit."""
    quantiser = quantiser_for(hub.config, hub.plan, members=len(hub.membership.members))
    return float(factor * norm_limit(hub.plan, quantiser, levels=1) / np.sqrt(quantiser.dimension))


# A coordinator that lies


class Adder(CoordinatorSession):
    """Commits to a sum with a vector of its own in it, and minds no digest: everything after is consistent."""

    def close_uploads(self) -> bytes:
        added = np.zeros(self.context.dimension, self.context.quantiser.dtype)
        added[:1000] = 40
        self._known_intake().total.add(added)
        return super().close_uploads()

    def _require_digests(self, phase: Any, total: Any, threads: int) -> None:
        """Nothing."""


class Swapper(CoordinatorSession):
    """Opens the true sum, and makes its release of another."""

    def open(self, **arguments: Any) -> AggregateSum:
        opened = super().open(**arguments)
        vector = opened.vector.copy()
        vector[:1000] += np.uint16(40)
        self._phase = OpenedPhase(self._terms, self._in(OpenedPhase).agreed, vector)
        return replace(opened, vector=vector, totals=self.context.quantiser.decode(vector))


class Forgetter(CoordinatorSession):
    """Leaves one member's digest out, and what would stand in for it."""

    def open(self, **arguments: Any) -> AggregateSum:
        self._in(RevealPhase).reveals.pop("birch")
        opened = super().open(**arguments)
        return replace(opened, lengths=replace(opened.lengths, silent=()))


@pytest.mark.parametrize("evil", [Adder, Swapper, Forgetter])
def test_no_member_takes_a_release_of_a_sum_that_its_survivors_did_not_upload(
    tmp_path: Path, evil: type[CoordinatorSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    with federation(tmp_path) as (hub, members):
        monkeypatch.setattr("sordino_coordinator.attempt.CoordinatorSession", evil)
        assert one_round(hub, members)  # the coordinator has signed and released it
        assert hub.releases.head().number == 1
        assert taken(members) == {0}
        for member in members.values():
            assert b'sordino_secagg_refusals_total{rule="evidence"} 1.0' in member.metrics.metrics.text() or (
                b'sordino_secagg_refusals_total{rule="model"} 1.0' in member.metrics.metrics.text()
            )
        # Nor with the next proposal, by whomever it comes.
        monkeypatch.undo()
        one_round(hub, members)
        assert taken(members) == {0}


@pytest.mark.parametrize("check", ["sum", "norm"])
@pytest.mark.parametrize("silent", [(), ("birch",)])
def test_a_true_sum_is_taken_by_all_also_where_a_survivor_went_silent(
    tmp_path: Path, check: Check, silent: tuple[str, ...]
) -> None:
    with federation(tmp_path, check) as (hub, members):
        assert one_round(hub, members, silent=silent)
        assert {member.newest_release() for name, member in members.items() if name not in silent} == {1}
        assert one_round(hub, members)
        assert taken(members) == {2}
        assert not (hub.folder / "uploads").exists()  # what stands in for the silent goes with the round


# A member that sends too much


def test_under_sum_a_member_may_use_the_room_of_the_mean_and_under_norm_it_is_named_and_the_sum_not_released(
    tmp_path: Path,
) -> None:
    for check, released in (("sum", True), ("norm", False)):
        with federation(tmp_path / check, check) as (hub, members):  # type: ignore[arg-type]
            assert one_round(hub, members, liar=long_update(hub, 2.0)) is released
            row = hub.rounds.rounds()[-1]
            if released:
                assert row.outcome is Outcome.COMPLETED
                continue
            assert row.outcome is Outcome.ABORTED_ERROR
            assert f"'{LIAR}' signed an update of length" in row.reason
            assert taken(members) == {0}


def test_who_denies_its_length_keeps_the_sum_from_being_released_and_cannot_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = MemberSession._sketch

    def denied(self: MemberSession, quantised: Any, sent: Any, seed: bytes, threads: int) -> Sketch:
        sketch = true(self, quantised, sent, seed, threads)
        if self._me != LIAR:
            return sketch
        shorter = tuple(value / 4 for value in sketch.length)
        return Sketch.signed(self._signing_key, self._known_roster().hash, seed, LIAR, sketch.rows, shorter)

    monkeypatch.setattr(MemberSession, "_sketch", denied)
    with federation(tmp_path, "norm") as (hub, members):
        assert not one_round(hub, members, liar=long_update(hub, 2.0))
        row = hub.rounds.rounds()[-1]
        assert row.outcome is Outcome.ABORTED_ERROR
        assert "no survivor owned up to" in row.reason
        assert LIAR not in row.reason


def test_a_coordinator_that_lets_a_long_update_pass_is_refused_by_every_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with federation(tmp_path, "norm") as (hub, members):
        monkeypatch.setattr("sordino_coordinator.attempt.require_honest_lengths", lambda *_, **__: None)
        assert one_round(hub, members, liar=long_update(hub, 2.0))
        assert hub.releases.head().number == 1
        assert taken(members) == {0}
