"""A real agent whose ledger refuses: it lives, completes, says why at every place, and goes on once it is recovered."""

from __future__ import annotations

import shutil
import subprocess
import threading
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.coordinator.crew import Hub
from tests.federation import inprocess
from tests.federation.test_agent_lives_on import SORDINO, agent, place, processes, until  # noqa: F401

from sordino_client.agent import outside
from sordino_client.agent.completion_process import CompletionProcess
from sordino_client.completion.asking import find_endpoint
from sordino_client.ledger import Ledger, LedgerHeldError, LedgerRefusesError
from sordino_client.round.member import Member
from sordino_client.settings import load_member_settings
from sordino_client.status import read_agent_status
from sordino_coordinator.rounds import RoundStore
from sordino_privacy.dpsgd import TrainingPlan

PLAN = TrainingPlan.parse(dict(inprocess.PLAN))


def unready_of(hub: Hub, name: str) -> str | None:
    store = RoundStore(hub.folder / "state.sqlite")
    try:
        return next((one.unready for one in store.members() if one.name == name), None)
    finally:
        store.close()


def test_an_agent_whose_ledger_was_restored_completes_says_why_and_heals_when_it_is_recovered(
    place: Path,  # noqa: F811
    tmp_path: Path,
    processes: ExitStack,  # noqa: F811
) -> None:
    alder, log = place / "members" / "alder", tmp_path / "agent.log"
    with Member.open(alder) as member:
        copy = tmp_path / "copy"
        member.ledger.close()
        shutil.copytree(alder / "ledger", copy)
    with Member.open(alder) as member:
        member.ledger.reserve("a" * 32, 1, PLAN)
    shutil.rmtree(alder / "ledger")
    shutil.copytree(copy, alder / "ledger")
    with pytest.raises(LedgerRefusesError, match="not whole"), Member.open(alder):
        pass

    hub = Hub(place / "coordinator", tmp_path / "hub.log")
    address = hub.start()
    processes.callback(hub.kill)
    text = (alder / "member.toml").read_text()
    (alder / "member.toml").write_text(text.replace("127.0.0.1:1", address))
    running = agent(alder, log, processes)

    def facts() -> dict[str, Any]:
        return read_agent_status(alder) if (alder / "status.json").exists() else {}

    until(lambda: facts().get("link") == "connected", log)
    assert facts()["not_ready"] == "ledger"
    assert "not whole" in facts()["ledger"]
    assert "sordino client ledger recover" in facts()["ledger"]
    until(lambda: unready_of(hub, "alder") == "ledger", log)
    completion = until(lambda: find_endpoint(alder / "completion"), log)
    assert completion.ask("GET", "/v1/memory") is not None
    said = subprocess.run([*SORDINO, "doctor", str(alder)], capture_output=True, text=True)
    assert "not whole" in said.stdout + said.stderr

    # It is recovered beside the running agent.
    subprocess.run([*SORDINO, "client", "ledger", "recover", "--folder", str(alder)], check=True)
    until(lambda: unready_of(hub, "alder") == "", log)
    assert running.poll() is None
    assert facts()["ledger"] == ""
    assert completion.ask("GET", "/v1/memory") is not None  # the same process, all along
    assert find_endpoint(alder / "completion") is not None
    with pytest.raises(LedgerHeldError):
        Ledger.open(alder / "ledger", datasets=["x"], budget=load_budget(alder))


def load_budget(folder: Path) -> Any:
    from sordino_client.round.member import budget_of
    from sordino_platform.identity import Identity

    return budget_of(load_member_settings(folder), Identity.load(folder).charter)


def test_a_look_at_the_ledger_that_fails_as_nobody_foresaw_is_said_once_and_followed_by_the_next(
    place: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outside, "LOOK_SECONDS", 0.01)
    alder, opened = place / "members" / "alder", Member.open
    waiting = outside.Outside(
        alder,
        CompletionProcess(alder, load_member_settings(alder)),
        threading.Event(),
        LedgerRefusesError("the ledger is not whole"),
    )
    looks: list[Path] = []

    def open_at_the_third(folder: Path) -> AbstractContextManager[Member]:
        looks.append(folder)
        if len(looks) < 3:
            raise OSError("what this says may be about anything")
        return opened(folder)

    monkeypatch.setattr(Member, "open", open_at_the_third)
    with capture_logs() as logs:
        watch = threading.Thread(target=waiting._watch, daemon=True)
        watch.start()
        watch.join(60)
    waiting._metrics.stop()
    assert not watch.is_alive()
    assert len(looks) == 3
    assert [line["event"] for line in logs] == ["ledger_refuses", "ledger_opens"]
    assert "about anything" not in str(logs)
