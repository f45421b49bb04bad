"""What a round would refuse at a member, `sordino doctor` says before: the two lists are one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine

from sordino_client.foreseen import SAID_BY
from sordino_client.ledger import Witness
from sordino_client.round.member import Member
from sordino_client.round.participation import PAUSED_FILE
from sordino_client.settings import load_member_settings, member_settings_text
from sordino_coordinator.settings import load_coordinator_settings as load_coordinator
from sordino_platform.architecture import HuggingFaceConfig
from sordino_platform.charter import HuggingFaceTerms
from sordino_platform.charter.waiting import keep_waiting
from sordino_platform.doctor.command import examine
from sordino_platform.doctor.finding import CheckState, Finding
from sordino_platform.identity import Identity, authority
from sordino_platform.offer import Unready

Wound = Callable[[Path, pytest.MonkeyPatch], None]
BASE = HuggingFaceConfig(
    base_sha256="00" * 32, vocabulary=300, context=64, end=1, adapter_rank=1, targets=(("q", 16, 16),)
)


def found(folder: Path) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(folder)}


def setting(alder: Path, **changes: object) -> None:
    settings = load_member_settings(alder).model_copy(update=changes)
    (alder / "member.toml").write_text(member_settings_text(settings))


def charged_once(alder: Path) -> float:
    """One round of the coordinator's own plan; gives what it cost."""
    plan = load_coordinator(alder.parents[1] / "coordinator").plan.plan()
    with Member.open(alder) as member:
        member.ledger.reserve("a" * 32, 1, plan)
        return member.epsilon_spent()


def pause(alder: Path, _: pytest.MonkeyPatch) -> None:
    (alder / PAUSED_FILE).write_bytes(b"paused by the member\n")


def ask(alder: Path, _: pytest.MonkeyPatch) -> None:
    setting(alder, participate="when_asked")


def expire(alder: Path, _: pytest.MonkeyPatch) -> None:
    """The test travels to the end of the charter."""


def hold_an_epoch(alder: Path, _: pytest.MonkeyPatch) -> None:
    root, identity = alder.parents[1] / "root", Identity.load(alder)
    weaker = identity.charter.privacy.model_copy(update={"largest_epsilon": 9.5})
    authority.begin_epoch(root, privacy=weaker)
    keep_waiting(alder, [authority.sign_epoch(root).to_bytes()], identity.charters)


def refuse_the_plan(alder: Path, _: pytest.MonkeyPatch) -> None:
    (alder / "status.json").write_text(json.dumps({"pid": os.getpid(), "not_ready": "plan", "release": 0}))


def be_offered_by_a_machine_that_was_replaced(alder: Path, _: pytest.MonkeyPatch) -> None:
    (alder / "status.json").write_text(
        json.dumps({"pid": os.getpid(), "not_ready": "superseded", "release": 0})
    )


def spend(alder: Path, _: pytest.MonkeyPatch) -> None:
    setting(alder, budget_epsilon=charged_once(alder) * 1.001)


def cap(alder: Path, _: pytest.MonkeyPatch) -> None:
    charged_once(alder)
    setting(alder, rounds_per_day=1)


def lose_rows(alder: Path, _: pytest.MonkeyPatch) -> None:
    with Member.open(alder) as member:
        member.ledger.compare_with(Witness(generation=0, sequence=1000, digest=bytes(32), charges=7))


def need_a_base(alder: Path, patched: pytest.MonkeyPatch) -> None:
    charter = Identity.load(alder).charter.model_copy(update={"model": HuggingFaceTerms.of(BASE)})
    patched.setattr(Identity, "charter", property(lambda _: charter))


def fill_disk(alder: Path, patched: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage("/")._replace(free=0)
    patched.setattr("sordino_client.round.contribution.shutil.disk_usage", lambda _: full)


def lose_data(alder: Path, _: pytest.MonkeyPatch) -> None:
    setting(alder, repositories=[alder / "gone"])


WOUNDS: dict[Unready, Wound] = {
    Unready.PAUSED: pause,
    Unready.NOT_ASKED: ask,
    Unready.CHARTER: expire,
    Unready.EPOCH: hold_an_epoch,
    Unready.PLAN: refuse_the_plan,
    Unready.BUDGET: spend,
    Unready.DAY_CAP: cap,
    Unready.LEDGER: lose_rows,
    Unready.BASE: need_a_base,
    Unready.DISK: fill_disk,
    Unready.SUPERSEDED: be_offered_by_a_machine_that_was_replaced,
    Unready.LOCAL: lose_data,
}


def test_every_reason_has_a_check_and_every_check_is_made(place: Path) -> None:
    assert set(SAID_BY) == set(WOUNDS) == set(Unready)
    checks = found(place / "members" / "alder")
    assert {name: checks[name].state for name in SAID_BY.values()} == dict.fromkeys(
        SAID_BY.values(), CheckState.OK
    )


@pytest.mark.parametrize("reason", list(Unready))
def test_what_a_round_refuses_doctor_says_before_and_with_what_to_do(
    place: Path, reason: Unready, monkeypatch: pytest.MonkeyPatch
) -> None:
    alder = place / "members" / "alder"
    WOUNDS[reason](alder, monkeypatch)
    ends = Identity.load(alder).charter.expires_at
    if reason is Unready.CHARTER:
        with time_machine.travel(ends + timedelta(days=1)):
            finding = found(alder)[SAID_BY[reason]]
    else:
        finding = found(alder)[SAID_BY[reason]]
    assert finding.state is not CheckState.OK
    assert finding.hint


def test_what_the_agent_answered_last_leads_to_the_check_that_knows_why(place: Path) -> None:
    alder = place / "members" / "alder"
    for reason in set(Unready) - {Unready.PLAN, Unready.SUPERSEDED}:
        (alder / "status.json").write_text(json.dumps({"pid": os.getpid(), "not_ready": reason.value}))
        finding = found(alder)["last offer"]
        assert (finding.state, finding.hint) == (CheckState.WARNING, f"see the check {SAID_BY[reason]!r}")
