"""A developer alone, in a real VS Code: nothing but the extension and the program, and text as it really is.

From an empty machine to the first suggestion in one step more than installing: opening the editor. The scenes leave
their screenshots in artefacts/vscode-alone/, and what was measured in figures.json there.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.vscode import editor as editors
from tests.vscode.editor import ROOT, Editor
from tests.vscode.film import Film

pytestmark = [pytest.mark.vscode, pytest.mark.timeout(600)]

ARTEFACTS = ROOT / "artefacts" / "vscode-alone"
SETTINGS: dict[str, Any] = {
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.wordBasedSuggestions": "off",
    "editor.minimap.enabled": False,
    "files.autoSave": "off",
    "workbench.startupEditor": "none",
    "workbench.reduceMotion": "on",
    "security.workspace.trust.enabled": False,
}
# What is typed stood above already: a text that the editor shows by itself must be worth a look.
CLASS = """public class Account {
    private int balance;

    public void deposit(int amount) {
        this.balance = this.balance + amount;
        this.log(amount);
    }

    public void deposited(int amount) {
        this.balance = this.balance + amount;
        this.log(amount);
    }

    public void withdraw(int amount) {
        """
SUM = """class Sum {
    int least(int a, int b) {
        return Math.max(a, b + Math.min(a, b));
    }

    int add(int a, int b) {
        return Math.max(a, b"""
GREETING = """# a greeting

def greet(name):
    print("\N{GRINNING FACE} " + name)


def part(name):
    print("\N{GRINNING FACE}"""
CALLS = "\n\n".join(
    f"def {name}(client):\n    value = client.fetch(name, limit=10)\n    return value\n"
    for name in ("first", "second", "third")
)
ORDERS = """import java.util.ArrayList;
import java.util.List;

public class Orders {
    private final List<Order> all = new ArrayList<>();

    public List<Order> open() {
        List<Order> found = new ArrayList<>();
        for (Order order : all) {
            if (order.isOpen()) {
                found.add(order);
            }
        }
        return found;
    }

    public List<Order> paid() {
        """
EDITOR = (348, 35, 640, 500)
"""The part of the screen that is filmed: the file, without the explorer."""
FILES = {
    "Orders.java": ORDERS,
    "next.py": CALLS,
    "Windows.java": CLASS.replace("\n", "\r\n"),
    "emoji.py": GREETING,
    "Bracket.java": SUM,
}
NOTICE = ".notifications-center .notification-list-item-message"


@dataclass(slots=True)
class Desk:
    """What the scenes share."""

    editor: Editor
    workspace: Path
    data: Path
    opened: float
    figures: dict[str, Any] = field(default_factory=dict)

    def saved(self, name: str) -> bytes:
        """A file as it lies on the disk after saving."""
        self.editor.press("Control+S")
        time.sleep(0.5)
        return (self.workspace / name).read_bytes()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    place = tmp_path_factory.mktemp("alone")
    if ARTEFACTS.exists():
        shutil.rmtree(ARTEFACTS)
    ARTEFACTS.mkdir(parents=True)
    workspace, data = place / "bank", place / "data"
    workspace.mkdir()
    data.mkdir()
    for name, text in FILES.items():
        (workspace / name).write_bytes(text.encode())
    machine = {"sordino.command": str(Path(sys.executable).with_name("sordino"))}
    with (
        editors.code_server(place, workspace, SETTINGS, machine, {"XDG_DATA_HOME": str(data)}) as (url, _),
        editors.browser(ARTEFACTS) as editor,
    ):
        began = time.monotonic()
        editor.do("open", url=url)
        found = Desk(editor, workspace, data, began)
        yield found
        (ARTEFACTS / "figures.json").write_text(json.dumps(found.figures, indent=1))


def test_the_extension_serves_by_itself_and_says_so_once(desk: Desk) -> None:
    assert "base model" in desk.editor.status("base model", 90)
    # A toast is gone after seconds, which may be before the endpoint serves; the list of notifications keeps it.
    desk.editor.command("Notifications: Show Notifications")
    assert "Nothing leaves the machine" in desk.editor.see(NOTICE, "serves completions on this machine")
    desk.editor.picture("serves-alone")
    desk.editor.dismiss_notices()


def test_what_a_developer_sees_is_filmed(desk: Desk) -> None:
    desk.editor.open_file("Orders.java")
    film = Film(desk.editor, EDITOR)
    film.take(900)
    for typed in ("List<Order> found", "for ", "if "):
        film.type(typed)
        ghost = desk.editor.ghost(30)
        film.take(1500)
        film.press("Tab")
        desk.editor.gone("[class*='ghost-text']", ghost)
        film.take(700)
        if "if (" in desk.saved("Orders.java").decode().rpartition("paid()")[2]:
            break  # the rest came at once
        film.press("End", "Enter")
    film.take(1500)
    film.save(ARTEFACTS / "ghost-text.gif")
    written = desk.saved("Orders.java").decode().rpartition("paid()")[2]
    assert "new ArrayList<>();" in written
    assert "for (Order order : all)" in written


def test_a_crlf_file_gets_whole_line_endings(desk: Desk) -> None:
    desk.editor.open_file("Windows.java")
    desk.editor.press("Space", "Backspace")
    ghost = desk.editor.ghost(30)
    desk.figures["seconds_from_opening_the_editor_to_the_first_suggestion"] = round(
        time.monotonic() - desk.opened, 1
    )
    desk.editor.picture("crlf-ghost")
    desk.editor.press("Tab")
    desk.editor.gone("[class*='ghost-text']", ghost)
    desk.editor.picture("crlf-accepted")
    saved = desk.saved("Windows.java")
    assert len(saved) > len(FILES["Windows.java"].encode())
    assert saved.count(b"\r\n") == saved.count(b"\n") == saved.count(b"\r")
    # The same behind a line that is typed and ended here, where the editor writes the ending.
    desk.editor.press("Control+End", "Enter")
    desk.editor.type("this.log(0);", delay=40)
    desk.editor.press("Enter")
    desk.editor.type("this.balance =", delay=40)
    desk.editor.press("Space")
    desk.editor.ghost(30)
    desk.editor.picture("crlf-typed-ghost")
    desk.editor.press("Tab")
    typed = desk.saved("Windows.java")
    assert len(typed) > len(saved)
    assert typed.count(b"\r\n") == typed.count(b"\n") == typed.count(b"\r")


def test_behind_an_emoji_only_whole_characters_come(desk: Desk) -> None:
    desk.editor.open_file("emoji.py")
    desk.editor.type(" ")
    ghost = desk.editor.ghost(30)
    desk.editor.picture("emoji-ghost")
    assert "\ufffd" not in ghost
    desk.editor.press("Tab")
    assert "\ufffd" not in desk.saved("emoji.py").decode()


def test_a_bracket_that_the_editor_closed_is_not_closed_again(desk: Desk) -> None:
    desk.editor.open_file("Bracket.java")
    # The editor closes the bracket itself; what is typed stands between the two.
    desk.editor.type(" + Math.min(")
    ghost = desk.editor.ghost(30)
    desk.editor.picture("bracket-ghost")
    desk.editor.press("Tab")
    desk.editor.gone("[class*='ghost-text']", ghost)
    desk.editor.picture("bracket-accepted")
    line = desk.saved("Bracket.java").decode().splitlines()[-1]
    assert line.strip() == "return Math.max(a, b + Math.min(a, b)"


def test_a_change_is_offered_at_its_next_places_and_tab_goes_there_and_makes_it(desk: Desk) -> None:
    desk.editor.open_file("next.py")
    desk.editor.press("Control+Home", "ArrowDown", "End", "ArrowLeft", "Backspace", "Backspace")
    desk.editor.type("20", delay=40)
    desk.editor.drawn("same change in line 7", 30)
    if desk.editor.ghost_now():
        desk.editor.press("Escape")
    desk.editor.picture("next-edit-offered")
    desk.editor.press("Tab")
    desk.editor.drawn("make this change")
    desk.editor.picture("next-edit-reached")
    desk.editor.press("Tab")
    desk.editor.drawn("same change in line 12", 30)
    desk.editor.picture("next-edit-made")
    desk.editor.press("Tab")
    desk.editor.drawn("make this change")
    desk.editor.press("Tab")
    assert desk.saved("next.py").decode() == CALLS.replace("10", "20")


def test_the_endpoint_ends_when_it_is_switched_off(desk: Desk) -> None:
    found = desk.data / "sordino" / "completion" / "completion.json"
    assert found.exists()
    assert (desk.data / "sordino" / "completion" / "memory" / "memory.json").exists()
    settings = next((desk.workspace.parent / "profile" / "Machine").glob("settings.json"))
    chosen = json.loads(settings.read_text())
    settings.write_text(json.dumps({**chosen, "sordino.serveAlone": False}))
    assert "no agent" in desk.editor.status("no agent", 60)
    desk.editor.picture("switched-off")
    assert not found.exists()
