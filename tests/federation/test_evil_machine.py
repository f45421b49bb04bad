"""The state machine of an evil coordinator against the real member; and that it notices each fault, put back.

A few hundred steps in every run of the tests, thousands with the slow ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.federation.hub import found_many
from tests.federation.machine import EvilMachine

from sordino_platform.charter import FloorTerms

CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
QUICK = settings(
    max_examples=15, stateful_step_count=20, deadline=None, derandomize=True, suppress_health_check=CHECKS
)
LONG = settings(max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=CHECKS)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[EvilMachine]]:
    folder: Path = tmp_path_factory.mktemp("machine") / "federation"
    found_many(folder, 5, organisations=5, floors=FloorTerms(cohort=4))
    with pytest.MonkeyPatch.context() as patched:
        # No step here loses power: that is tested where processes are killed. Half of the time were the disk's.
        patched.setattr(os, "fsync", lambda _: None)
        yield type("FoundedMachine", (EvilMachine,), {"founded": folder})


@pytest.mark.timeout(300)
def test_no_order_of_messages_gets_anything_that_is_not_the_coordinators(machine: type[EvilMachine]) -> None:
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nor_do_thousands_of_them(machine: type[EvilMachine]) -> None:
    run_state_machine_as_test(machine, settings=LONG)


def believes_manifests(patched: pytest.MonkeyPatch) -> None:
    """The old fault: a signed manifest with weights that match it is enough."""

    def believing(provenance: object, newest: object, before: object, held: object) -> object:
        return provenance.model  # type: ignore[attr-defined]

    patched.setattr("sordino_platform.following._stepped", believing)


def restores_whatever(patched: pytest.MonkeyPatch) -> None:
    def believing(provenance: object, newest: object, held: object) -> object:
        return provenance.model  # type: ignore[attr-defined]

    patched.setattr("sordino_platform.following._restored", believing)
    patched.setattr("sordino_platform.release.manifest._require_origin", lambda *_: None)


def keeps_before_it_asks(patched: pytest.MonkeyPatch) -> None:
    """The old fault: releases were stored while the proposal was still being judged, whatever the owner wished."""
    from sordino_client.round.adoption import adopt
    from sordino_client.round.agreement import decide as honest

    def eager(member: object, proposal: object) -> object:
        agreed = honest(member, proposal)  # type: ignore[arg-type]
        adopt(member, agreed.adoption)  # type: ignore[arg-type]
        return agreed

    patched.setattr("sordino_client.round.app.decide", eager)
    patched.setattr("sordino_client.round.participation.Participation.require_willing", lambda *_, **__: None)


def takes_epochs_unasked(patched: pytest.MonkeyPatch) -> None:
    patched.setattr("sordino_client.round.agreement.require_unasked", lambda *_: None)


def tells_the_class(patched: pytest.MonkeyPatch) -> None:
    patched.setattr("sordino_client.round.app.word_of", lambda error: type(error).__name__)


def nobody_made_it(state: EvilMachine) -> None:
    state.begin(again=False)
    state.invent(shape="round", proposed=True)


def nobody_released_it(state: EvilMachine) -> None:
    state.begin(again=False)
    state.invent(shape="rollback", proposed=True)


def nobody_is_willing(state: EvilMachine) -> None:
    state.pause()
    state.begin(again=False)


def nobody_accepted_it(state: EvilMachine) -> None:
    state.replace_everybody(how="proposal")


MUTANTS = [
    (believes_manifests, nobody_made_it),
    (restores_whatever, nobody_released_it),
    (keeps_before_it_asks, nobody_is_willing),
    (takes_epochs_unasked, nobody_accepted_it),
    (tells_the_class, nobody_is_willing),
]


@pytest.mark.parametrize(("mutant", "act"), MUTANTS, ids=lambda part: part.__name__)
def test_each_old_fault_is_noticed_by_the_machine_when_it_is_put_back(
    machine: type[EvilMachine],
    mutant: Callable[[pytest.MonkeyPatch], None],
    act: Callable[[EvilMachine], None],
) -> None:
    """The shortest way to each; the machine's own checks are what notices it."""

    def steps() -> None:
        state = machine()
        try:
            state.begin_world()
            act(state)
            state.nothing_is_adopted_that_was_not_made()
            state.no_epoch_is_in_force_that_nobody_accepted()
        finally:
            state.teardown()

    steps()  # without the fault nothing is noticed
    with pytest.MonkeyPatch.context() as patched:
        mutant(patched)
        with pytest.raises(AssertionError):
            steps()
