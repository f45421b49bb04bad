"""A count under noise in shares, through the real Member, ClientApp and coordinator: what it opens, what it costs."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.federation import inprocess
from tests.federation import test_shared_memory as counting
from tests.federation.proposed import offer_of, proposal_of
from typer.testing import CliRunner

from sordino_client.commands import app as client_cli
from sordino_client.ledger.witness import keep
from sordino_client.recovery import recover, worst
from sordino_client.round.contribution import contribute
from sordino_client.round.folder import RoundFolder
from sordino_client.round.member import Member
from sordino_client.round.readiness import first_reason
from sordino_client.status import read_ledger
from sordino_coordinator import doctor
from sordino_coordinator.commands import app as coordinator_cli
from sordino_coordinator.federation import Federation
from sordino_platform.charter import FloorTerms, PrivacyPolicy, SharedMemoryPolicy
from sordino_platform.flower.phases import Phase
from sordino_platform.offer import Unready
from sordino_platform.proposal import quantiser_for, require_honest_mean, shared_noise
from sordino_privacy.accounting import epsilon
from sordino_privacy.counts import CountPlan
from sordino_privacy.errors import BudgetError
from sordino_privacy.secagg import NormError, Totals

AGREED = 40.0
FLOORS = FloorTerms(cohort=4, honest=3)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("founded")
    folder: Path = base / "federation"
    inprocess.found_in(
        folder,
        privacy=PrivacyPolicy(noise="distributed", largest_steps=1),
        floors=FLOORS,
        shared_memory=SharedMemoryPolicy(),
        counts=counting.COUNTS,
        exchange_seconds=60.0,
        of_members={
            "minimum_units": 4,
            "heldout_share": 0.0,
            "epsilon_if_others_collude": AGREED,
        },
    )
    for number in range(8):
        part = base / "code" / f"part{number}"
        part.mkdir(parents=True)
        lines = [f"def gadget_{number}_{k}(thing):\n    return thing * {k} + {number}\n\n" for k in range(12)]
        (part / "module.py").write_text("".join(lines))
    settings = folder / "members" / "alder" / "member.toml"
    settings.write_text(
        settings.read_text().replace(json.dumps([str(folder)]), json.dumps([str(base / "code")]))
    )
    return folder


def counting_plan(federation: Federation) -> CountPlan:
    assert federation.settings.counts is not None
    plan = federation.settings.counts.plan(salt=9, fewest=4, shares=FLOORS.honest)
    federation.plan = plan
    return plan


@pytest.mark.parametrize("silent", [set(), {(Phase.UPLOAD, "elm")}, {(Phase.UNMASK, "elm")}])
def test_a_count_in_shares_believes_by_the_noise_that_the_sum_has(
    place: Path, silent: set[tuple[Phase, str]]
) -> None:
    federation = Federation.open(place / "coordinator")
    if silent:  # who never answers is waited for
        federation.desk.defaults = federation.settings.model_copy(update={"exchange_seconds": 6.0})
    with inprocess.opened(place) as members:
        counting.order(federation)
        assert counting.hold_round(federation, members, silent)
        memory = federation.releases.shared_memory()
        assert memory is not None
        survivors = 4 if (Phase.UPLOAD, "elm") in silent else 5
        assert (memory.survivors, memory.shares) == (survivors, 3)
        plan = memory.plan
        noise = plan.deviations * plan.noise_multiplier * plan.sensitivity() * math.sqrt(survivors / 3)
        assert memory.threshold == max(noise, plan.witnesses * plan.largest_count)
        assert set(counting.COMMON) <= set(memory.cells.tolist())
        assert not set(counting.ALONE) & set(memory.cells.tolist()), (
            "one honest member's phrase does not appear"
        )
        for name, member in members.items():
            if (Phase.UPLOAD, name) not in silent:
                held = counting.memory_of(member)
                assert held is not None
                assert held.digest() == counting.mark_of(federation).sha256
        shown = federation.records.provenance(after=0)
        assert shown is not None
        assert shown.opened is not None
        quantiser = quantiser_for(federation.config, plan, members=5, shares=3)
        step = quantiser.groups[0].range / quantiser.levels
        values = quantiser.decode(shown.opened.sum).integers.astype(float) * step
        quiet = np.abs(values) < plan.largest_count
        deviation = plan.deviation() * math.sqrt(survivors / 3)
        assert quiet.sum() > 0.99 * plan.cells
        assert abs(float(values[quiet].std()) / deviation - 1) < 6 / math.sqrt(2 * plan.cells)


def test_a_member_counts_adds_its_share_and_charges_both_numbers_beside_its_trainings(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with Member.open(place / "members" / "alder") as member:
        trained = federation.plan
        member.ledger.reserve(federation.run, 7, trained, noise=member.noise(trained))
        member.ledger.commit(member.ledger.reservations()[0])
        plan = counting_plan(federation)
        contribute(member, proposal_of(federation), federation.weights())
        folder = RoundFolder.of(member.folder, federation.run, 1)
        quantiser = quantiser_for(federation.config, plan, members=5, shares=3)
        totals = quantiser.decode(folder.quantised().vector)
        noise = shared_noise(federation.config, plan, members=5, shares=3)
        assert noise.dimension == plan.cells
        # Most cells hold noise alone, and no file on the disk holds a count without it.
        middle = np.sort(np.abs(totals.integers.astype(float)))[: plan.cells // 2]
        assert abs(float(middle[-1]) / math.sqrt(noise.share_variance) / 0.6745 - 1) < 0.15
        stored = np.load(folder.path / "job" / "update.npy", allow_pickle=False)
        assert stored.dtype == np.dtype("<u4")
        both = member.ledger.reservations()
        events = [one.cost.event for one in both]
        assert (events[1].sampling_rate, events[1].steps) == (1.0, 1)
        assert events[1] == noise.event(sampling_rate=1.0)
        assert both[1].cost.alone == noise.event_alone(sampling_rate=1.0)
        facts = read_ledger(place / "members" / "alder")
        assert facts["epsilon_spent"] == epsilon(events, 1e-6).value, "one composition, under one budget"
        assert facts["epsilon_if_others_collude"] == epsilon([one.cost.alone for one in both], 1e-6).value
        assert facts["epsilon_spent"] < facts["epsilon_if_others_collude"] < AGREED


def test_a_member_whose_owner_did_not_agree_to_the_second_number_counts_nothing(place: Path) -> None:
    settings = place / "members" / "alder" / "member.toml"
    settings.write_text(
        settings.read_text().replace(
            f"epsilon_if_others_collude = {AGREED}", "epsilon_if_others_collude = 0.0"
        )
    )
    federation = Federation.open(place / "coordinator")
    counting_plan(federation)
    offer = offer_of(federation)
    with Member.open(place / "members" / "alder") as member:
        reason, error = first_reason(member, offer)
        assert reason is Unready.BUDGET
        assert error is not None
        assert "epsilon_if_others_collude = " in error.hint
        with pytest.raises(BudgetError, match="has not agreed"):
            contribute(member, proposal_of(federation), federation.weights())
        assert not member.ledger.reservations()


def test_a_sum_with_more_noise_than_its_shares_have_is_refused(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    plan = counting_plan(federation)
    quantiser = quantiser_for(federation.config, plan, members=5, shares=3)
    noise = shared_noise(federation.config, plan, members=5, shares=3)
    drawn = np.random.default_rng(2).normal(0, math.sqrt(5 * noise.share_variance), plan.cells)

    def totals(times: float) -> Totals:
        integers = (drawn * times).astype(np.int32)
        return Totals(quantiser=quantiser, integers=integers, weight=5.0, saturated=0, loss=0.0, examples=5)

    require_honest_mean(plan, totals(1.0), survivors=5)
    longest = plan.longest_counts() / (plan.deviation() / math.sqrt(15) * math.sqrt(plan.cells))
    with pytest.raises(NormError, match="norm"):
        require_honest_mean(plan, totals(2 + longest), survivors=5)


def test_the_commands_say_both_numbers_of_a_count(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    runner = CliRunner()
    coordinator = str(place / "coordinator")
    asked = runner.invoke(coordinator_cli, ["count", "--folder", coordinator, "--json"])
    assert asked.exit_code == 0, asked.output
    said: dict[str, Any] = json.loads(asked.output)
    assert 2.2 < said["epsilon"] < 3.2
    assert said["epsilon"] < said["epsilon_if_others_collude"] < AGREED
    text = runner.invoke(coordinator_cli, ["count", "--folder", coordinator]).output
    assert "if all others collude" in text
    assert "if all others collude" in doctor.counts(federation.settings, federation.identity)
    assert "if all others collude" in doctor.plan(federation.settings, federation.identity)
    with inprocess.opened(place) as members:
        assert counting.hold_round(federation, members)
    shown = runner.invoke(client_cli, ["shared", "--folder", str(place / "members" / "elm"), "--json"])
    facts = json.loads(shown.output)
    assert facts["noise_shares"] == 3
    assert facts["epsilon"] == pytest.approx(said["epsilon"], rel=0.02)
    assert facts["epsilon_if_others_collude"] == pytest.approx(said["epsilon_if_others_collude"], rel=0.02)
    assert (
        "if all others collude"
        in runner.invoke(client_cli, ["shared", "--folder", str(place / "members" / "elm")]).output
    )


def test_what_recovery_charges_for_a_forgotten_round_is_no_less_than_any_round_costs_in_either_number(
    place: Path,
) -> None:
    federation = Federation.open(place / "coordinator")
    dearest = worst(federation.charter)
    with Member.open(place / "members" / "elm") as member:
        plans = [federation.plan, counting_plan(federation)]
        plans += [
            CountPlan(bits=bits, noise_multiplier=0.5, largest_count=1, delta=1e-6, salt=1, window=64)
            for bits in (12, 20, 22)
        ]
        for plan in plans:
            cost = member.ledger.preview(plan, noise=member.noise(plan))
            assert cost.after <= epsilon([dearest.event], 1e-6).value
            assert cost.alone <= epsilon([dearest.alone], 1e-6).value
    assert dearest.shared


@pytest.mark.parametrize("known", [True, False])
def test_a_recovered_ledger_is_firm_and_no_cheaper_in_either_number(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """A training was held and a count uploaded when the ledger was lost: on this machine, or with its file too."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "machine"))
    federation, elm = Federation.open(place / "coordinator"), place / "members" / "elm"
    with Member.open(elm) as member:
        trained, counted = federation.plan, counting_plan(federation)
        for number, plan in enumerate((trained, counted)):
            charge = member.ledger.reserve(federation.run, number, plan, noise=member.noise(plan))
            member.ledger.commit(charge)
        before = member.ledger.spent().value, member.ledger.spent_alone().value
        witness = member.ledger.stands()
    shutil.rmtree(elm / "ledger")
    if not known:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
        (elm / "ledger").mkdir(mode=0o700)
        keep(elm / "ledger", witness)
    done = recover(elm)
    assert (done.known, done.counted) == ((2, 0) if known else (0, 2))
    after = done.after, done.if_others_collude_after
    assert after == before if known else (after[0] > before[0] and after[1] > before[1])
    with Member.open(elm) as member:
        assert len(member.ledger.firm()) == 2
        assert (member.ledger.spent().value, member.ledger.spent_alone().value) == after
        assert not member.ledger.held()
