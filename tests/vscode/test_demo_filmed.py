"""`sordino demo` in VS Code's own terminal, from the first line to the last, as a film for the README."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.vscode import editor as editors
from tests.vscode.editor import ROOT
from tests.vscode.film import Film

pytestmark = [pytest.mark.vscode, pytest.mark.timeout(1200)]

ARTEFACTS = ROOT / "artefacts" / "vscode-demo"
SETTINGS: dict[str, Any] = {
    "terminal.integrated.gpuAcceleration": "off",  # its text is then in the page, and can be waited for
    "terminal.integrated.fontSize": 13,
    "workbench.startupEditor": "none",
    "workbench.reduceMotion": "on",
    "security.workspace.trust.enabled": False,
}
ROWS = ".xterm-rows"
TERMINAL = (48, 36, 1232, 740)
EVERY_SECONDS = 3.0
LONGEST_SECONDS = 900.0
DONE = "[the demo has ended]"


def test_the_demo_runs_in_a_terminal_and_is_filmed(tmp_path: Path) -> None:
    if ARTEFACTS.exists():
        shutil.rmtree(ARTEFACTS)
    ARTEFACTS.mkdir(parents=True)
    workspace = tmp_path / "demo"
    workspace.mkdir()
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    with (
        editors.code_server(tmp_path, workspace, SETTINGS, {}, {"PATH": path}) as (url, _),
        editors.browser(ARTEFACTS) as editor,
    ):
        editor.do("open", url=url)
        editor.command("Terminal: Create New Terminal")
        editor.do("see", selector=ROWS, text="$", seconds=60)
        editor.command("View: Toggle Maximized Panel")
        editor.command("View: Toggle Primary Side Bar Visibility")
        editor.do("click", selector=ROWS)
        film = Film(editor, TERMINAL)
        editor.type("clear; sordino demo")
        film.take(900)
        # What is waited for must not stand in what is typed.
        editor.type("; echo '[the demo' has 'ended]'", delay=1)
        editor.press("Enter")
        end = time.monotonic() + LONGEST_SECONDS
        while DONE not in "".join(editor.do("texts", selector=ROWS)):
            assert time.monotonic() < end, "the demo did not end"
            time.sleep(EVERY_SECONDS)
            film.take(400)
        film.take(4000)
        film.save(ARTEFACTS / "demo.gif", longest=4000)
        shown = "".join(editor.do("texts", selector=ROWS))
    assert "bits per byte" in shown
