"""A developer's day, in a real VS Code in a real browser, with a real member joined to a real coordinator.

One story in order; each test is one scene and leaves its screenshots in artefacts/vscode/. Figures that are measured
on the way are written to artefacts/vscode/figures.json and never asserted.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.vscode import editor as editors
from tests.vscode import federation as federations
from tests.vscode.editor import ROOT, STATUS, Editor
from tests.vscode.federation import DEVELOPER, Federation

from sordino_client.completion.asking import Endpoint

pytestmark = [pytest.mark.vscode, pytest.mark.timeout(900)]

ARTEFACTS = ROOT / "artefacts" / "vscode"
ACCOUNT = """package bank;

import java.util.ArrayList;
import java.util.List;

public class Account {
    private int balance;
    private String owner;
    private final List<String> entries = new ArrayList<>();

    public int getBalance() {
        return balance;
    }

    public String getOwner() {
        return owner;
    }

    public void setOwner(String owner) {
        this.owner = owner;
    }

    public void deposit(int amount) {
        this.balance"""
SECRET = "DATABASE_PASSWORD=x\nAPI_URL="
# What someone had typed before pressing space: thirty different lines, so that none is answered from what is known.
LINES = [
    start.format(name)
    for name in ("total", "amount", "limit", "rate", "count")
    for start in ("int {} =", "if ({} >", "this.{} =", "return {} +", "String {} =", "for (int {} :")
]
SETTINGS: dict[str, Any] = {
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.wordBasedSuggestions": "currentDocument",
    "editor.minimap.enabled": False,
    "files.autoSave": "off",
    "workbench.startupEditor": "none",
    "workbench.reduceMotion": "on",
    "security.workspace.trust.enabled": False,
}
NOTICE = ".notifications-toasts .notification-list-item-message"
DIALOG = ".monaco-dialog-box"


@dataclass(slots=True)
class Day:
    """What the scenes share."""

    editor: Editor
    federation: Federation
    workspace: Path
    server: int
    figures: dict[str, Any] = field(default_factory=dict)

    def door(self, name: str) -> Endpoint:
        """The agent's endpoint, as another program would use it."""
        folder = self.federation.member / name
        port = json.loads((folder / f"{name}.json").read_text())["port"]
        return Endpoint(host="127.0.0.1", port=port, token=(folder / "token").read_text().strip())

    def text(self) -> str:
        """The open file as it would be saved."""
        self.editor.press("Control+S")
        time.sleep(0.5)
        return (self.workspace / "Account.java").read_text()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    place = tmp_path_factory.mktemp("day")
    if ARTEFACTS.exists():
        shutil.rmtree(ARTEFACTS)
    ARTEFACTS.mkdir(parents=True)
    workspace = place / "bank"
    workspace.mkdir()
    (workspace / "Account.java").write_text(ACCOUNT)
    (workspace / ".env").write_text(SECRET)
    with federations.running(place / "federation") as federation:
        # The extension looks where `sordino client` puts a member by itself.
        data = place / "data"
        data.mkdir()
        (data / "sordino").symlink_to(federation.member)
        machine = {"sordino.command": str(Path(sys.executable).with_name("sordino"))}
        surroundings = {"XDG_DATA_HOME": str(data)}
        with (
            editors.code_server(place, workspace, SETTINGS, machine, surroundings) as (url, server),
            editors.browser(ARTEFACTS) as editor,
        ):
            editor.do("open", url=url)
            found = Day(editor, federation, workspace, server.pid)
            yield found
            (ARTEFACTS / "figures.json").write_text(json.dumps(found.figures, indent=1))
            editors.end_agent(federation.member)


def test_the_extension_finds_the_agent_by_itself(day: Day) -> None:
    day.editor.open_file("Account.java")
    assert "base model" in day.editor.status("base model", 60)
    day.editor.picture("agent-found")


def test_space_in_a_java_file_gives_ghost_text_from_the_model(day: Day) -> None:
    before = day.door("completion").ask("GET", "/v1/statistics")["requests"]
    day.editor.press("Space")
    ghost = day.editor.ghost()
    assert ghost.strip()
    day.editor.picture("ghost-text")
    assert day.door("completion").ask("GET", "/v1/statistics")["requests"] > before
    day.figures["first_ghost_text"] = ghost


def test_a_word_is_accepted_and_then_all_of_it(day: Day) -> None:
    editor = day.editor
    whole = editor.ghost()
    editor.press("Control+ArrowRight")
    time.sleep(0.5)
    rest = editor.ghost_now()
    assert whole.endswith(rest)
    assert rest != whole
    editor.picture("word-accepted")
    if rest:
        editor.press("Tab")
    assert day.text() == f"{ACCOUNT} {whole}"
    editor.picture("all-accepted")
    counts = day.door("completion").ask("GET", "/v1/statistics")
    assert counts["accepted"] + counts["accepted_characters"] > 0
    assert counts["shown"] > 0


def test_another_suggestion_is_shown_and_escape_hides_it(day: Day) -> None:
    editor = day.editor
    editor.press("End", "Enter")
    editor.type("this.owner =", delay=60)  # more than one text is likely behind it
    editor.press("Space")
    first = editor.ghost()
    editor.press("Alt+]")
    deadline = time.monotonic() + 10
    while (other := editor.ghost_now()) in {"", first} and time.monotonic() < deadline:
        time.sleep(0.1)
    editor.picture("another-suggestion")
    assert other not in {"", first}
    editor.press("Escape")
    time.sleep(0.3)
    assert editor.ghost_now() == ""
    editor.picture("escape")


def test_tab_belongs_to_the_list_of_the_editor_while_it_is_open(day: Day) -> None:
    editor = day.editor
    editor.press("End", "Enter")
    editor.type("getBal", delay=60)
    editor.press("Control+Space")
    editor.see(".suggest-widget.visible .monaco-list-row", "getBalance")
    editor.picture("suggest-list")
    editor.press("Tab")
    assert day.text().splitlines()[-1].strip() == "getBalance"


def test_a_secret_file_gets_none_and_the_command_says_why(day: Day) -> None:
    editor = day.editor
    editor.open_file(".env")
    editor.press("Space")
    editor.no_ghost(3.0)
    editor.command("Sordino: Why No Suggestion")
    assert "named like one that holds secrets" in editor.see(NOTICE, "No suggestion")
    editor.picture("secret-file")
    editor.dismiss_notices()


def test_from_the_key_to_ghost_text_over_thirty_presses(day: Day) -> None:
    editor = day.editor
    editor.open_file("Account.java")
    seen = []
    before = (endpoint := day.door("completion")).ask("GET", "/v1/statistics")
    for line in LINES:
        editor.press("Control+End", "Enter")
        editor.type(line, delay=15)
        seen.append(editor.do("timed", key="Space"))
        # The line goes again: a file full of unfinished lines would teach the model to finish none.
        editor.press("Escape", "Control+Shift+K")
    # A suggestion that stood there before the key took no time at all; it is counted apart.
    times = [one["taken"] for one in seen if one["taken"] is not None and not one["before"]]
    assert len(times) > 1, "the model is silent at every place"
    after = endpoint.ask("GET", "/v1/statistics")
    day.figures["key_to_ghost_text_ms"] = {
        "presses": len(seen),
        "answered": len(times),
        "median": round(statistics.median(times)),
        "quartiles": [round(value) for value in statistics.quantiles(times)],
        "slowest": round(max(times)),
        "silent": sum(one["taken"] is None for one in seen),
        "stood_there_before": sum(bool(one["before"]) for one in seen),
        "agent_requests": after["requests"] - before["requests"],
        "load_average": os.getloadavg()[0],
    }
    editor.picture("after-thirty-presses")


def test_an_idle_editor_asks_nothing_and_its_memory_is_known(day: Day) -> None:
    host = editors.extension_host(day.server)
    endpoint = day.door("completion")
    time.sleep(5)  # what was still under way ends
    requests, began = endpoint.ask("GET", "/v1/statistics")["requests"], editors.cpu_seconds(host)
    time.sleep(20)
    day.figures["extension_host"] = {
        "resident_mb": round(editors.resident_bytes(host) / 1e6, 1),
        "cpu_seconds_in_20_idle_seconds": round(editors.cpu_seconds(host) - began, 2),
    }
    assert endpoint.ask("GET", "/v1/statistics")["requests"] == requests


def test_a_killed_agent_is_said_and_can_be_started_from_the_status_bar(day: Day) -> None:
    editor = day.editor
    day.federation.processes.kill(DEVELOPER)
    assert "no agent" in editor.status("no agent", 10)
    editor.picture("agent-killed")
    editor.press("End", "Enter", "Space")
    editor.no_ghost(1.0)
    editor.do("click", selector=STATUS)
    assert "base model" in editor.status("base model", 120)
    editor.picture("agent-started-again")


def test_run_federated_learning_runs_a_real_round_to_its_end(day: Day) -> None:
    editor, door = day.editor, day.door("control")
    deadline = time.monotonic() + 120
    while True:
        offer = door.ask("GET", "/v1/member")["offer"]
        if offer and offer["ready"] == 4:
            break
        assert time.monotonic() < deadline, "the coordinator offers no round with four others ready"
        time.sleep(0.5)
    editor.command("Sordino: Run Federated Learning")
    question = editor.see(DIALOG, "Take part in round")
    editor.picture("round-consent")
    assert "4 other members ready, 5 connected of 5" in question
    assert f"epsilon {offer['cost']['run']:.2f}" in question
    began = time.monotonic()
    editor.do("click", selector=f"{DIALOG} .monaco-button", text="Run")
    assert "training" in editor.status("training", 60)
    editor.picture("round-training")
    assert "now has model 1" in editor.see(NOTICE, "is complete", 400)
    day.figures["round_seconds"] = round(time.monotonic() - began, 1)
    editor.gone(STATUS, "training")
    assert editor.status("Sordino: round 1", 30).strip() == "Sordino: round 1"
    editor.picture("round-complete")
    finished = [event for event in federations.events(day.federation) if event["event"] == "round_finished"]
    assert [event["outcome"] for event in finished if DEVELOPER in str(event["members"])] == ["completed"]


def test_the_ledger_shows_what_was_spent(day: Day) -> None:
    editor = day.editor
    editor.dismiss_notices()
    spent = day.door("control").ask("GET", "/v1/member")["privacy"]["spent"]
    assert spent > 0
    editor.command("Sordino: Show Privacy Ledger")
    shown = editor.webview("Epsilon spent")
    assert f"{spent:.2f}" in shown
    editor.picture("ledger")


def test_the_loss_graph_and_the_statistics_are_drawn(day: Day) -> None:
    editor = day.editor
    editor.command("Sordino: Show Loss Graph")
    assert "Members in the sum" in editor.webview("Held-out loss from")
    editor.picture("losses")
    editor.command("Sordino: Show Statistics")
    assert "sordino-1" in editor.webview("Counted on this machine")
    editor.picture("statistics")


def test_suggestions_come_from_the_new_model(day: Day) -> None:
    editor = day.editor
    editor.open_file("Account.java")
    editor.press("Enter")
    editor.type("return", delay=60)
    editor.press("Space")
    assert editor.ghost().strip()
    editor.picture("ghost-text-after-the-round")
    assert day.door("completion").ask("GET", "/v1/models")["data"][0]["id"] == "sordino-1"


def test_a_pause_is_kept_and_shown(day: Day) -> None:
    editor = day.editor
    editor.command("Sordino: Pause Federated Learning")
    editor.see(NOTICE, "is paused")
    assert day.door("control").ask("GET", "/v1/member")["participation"]["paused"] is True
    editor.picture("paused")
    editor.command("Sordino: Resume Federated Learning")
    editor.see(NOTICE, "goes on")
    editor.dismiss_notices()


def test_a_language_that_is_switched_off_is_said(day: Day) -> None:
    editor = day.editor
    editor.open_file("Account.java")
    editor.command("Sordino: Choose Languages")
    editor.see(".quick-input-list .monaco-list-row", "java")
    editor.picture("choose-languages")
    editor.press("ArrowDown", "Space", "Enter")
    assert "off" in editor.status("Sordino: off")
    editor.picture("language-off")
    editor.press("Control+End", "Enter")
    editor.type("return ", delay=60)
    editor.no_ghost(2.0)
