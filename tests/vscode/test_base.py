"""A larger base in a real VS Code: `sordino.base` names it, the cursor is read ahead, and suggestions come from it.

The base is made here, and knows one file by heart; where the package that ships SmolLM2 is installed, a scene more is
played with that. Screenshots and figures lie in artefacts/vscode-base/.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.vscode import editor as editors
from tests.vscode.editor import ROOT, Editor
from tests.vscode.known_by_heart import write_base
from tests.vscode.test_alone import CLASS, SETTINGS

from sordino_client.completion import asking
from sordino_client.completion.asking import Endpoint
from sordino_platform import bases
from sordino_privacy.errors import ConfigurationError

pytestmark = [pytest.mark.vscode, pytest.mark.timeout(600)]

ARTEFACTS = ROOT / "artefacts" / "vscode-base"
LINE = "        this.balance = this.balance + amount;"


@contextlib.contextmanager
def desk(place: Path, base: str, text: str, environment: dict[str, str]) -> Iterator[tuple[Editor, Endpoint]]:
    """An editor on a workspace with one file, and the endpoint that the extension starts for it."""
    workspace, data = place / "bank", Path(environment["XDG_DATA_HOME"])
    workspace.mkdir(parents=True)
    (workspace / "Account.java").write_text(text)
    machine = {"sordino.command": str(Path(sys.executable).with_name("sordino")), "sordino.base": base}
    with (
        editors.code_server(place, workspace, SETTINGS, machine, environment) as (url, _),
        editors.browser(ARTEFACTS) as editor,
    ):
        editor.do("open", url=url)
        editor.status(Path(base).name, 180)
        found = asking.find_endpoint(data / "sordino" / "completion")
        assert found is not None
        yield editor, found


@pytest.fixture(scope="module", autouse=True)
def artefacts() -> None:
    if ARTEFACTS.exists():
        shutil.rmtree(ARTEFACTS)
    ARTEFACTS.mkdir(parents=True)


def warmed(endpoint: Endpoint) -> int:
    return int(endpoint.ask("GET", "/v1/statistics")["reasons"].get("warmed", 0))


def until_warmed(endpoint: Endpoint, count: int) -> None:
    deadline = time.monotonic() + 60
    while warmed(endpoint) < count:
        assert time.monotonic() < deadline, endpoint.ask("GET", "/v1/statistics")
        time.sleep(0.1)


def test_a_suggestion_comes_from_the_base_and_the_cursors_place_was_read_before_the_first_key(
    tmp_path: Path,
) -> None:
    base = write_base(tmp_path / "by-heart", CLASS)
    environment = {"XDG_DATA_HOME": str(tmp_path / "data")}
    text = (
        CLASS[: CLASS.index("    public void deposited")]
        + "    public void deposited(int amount) {\n        this."
    )
    with desk(tmp_path / "desk", str(base), text, environment) as (editor, endpoint):
        editor.open_file("Account.java")
        until_warmed(endpoint, 1)
        before = endpoint.ask("GET", "/v1/statistics")
        editor.picture("opened")
        editor.type("bal", delay=40)
        ghost = editor.ghost(30)
        editor.picture("ghost")
        assert "ance" in ghost
        editor.press("Tab")
        editor.gone("[class*='ghost-text']", ghost)
        assert endpoint.ask("GET", "/v1/models")["data"][0]["id"] == base.name
        after = endpoint.ask("GET", "/v1/statistics")
        assert after["accepted"] > before["accepted"]


def test_smollm2_suggests_a_line(tmp_path: Path) -> None:
    try:
        bases.find_base("smollm2")
    except ConfigurationError as error:
        pytest.skip(error.hint)
    figures: dict[str, Any] = {}
    environment = {"XDG_DATA_HOME": str(tmp_path / "data")}
    began = time.monotonic()
    with desk(tmp_path / "desk", "smollm2", CLASS, environment) as (editor, endpoint):
        figures["seconds_to_the_model"] = round(time.monotonic() - began, 1)
        editor.open_file("Account.java")
        until_warmed(endpoint, 1)
        editor.press("Space", "Backspace")
        figures["suggestion"] = editor.ghost(60)
        editor.picture("smollm2-ghost")
        assert endpoint.ask("GET", "/v1/models")["data"][0]["id"] == "smollm2"
        assert figures["suggestion"].strip()
    (ARTEFACTS / "figures.json").write_text(json.dumps(figures, indent=1))
