"""What the editor's extension promises in its manifest is written down, and it is built from locked parts only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "client" / "vscode"
GUIDE = (ROOT / "docs" / "guides" / "vscode.md").read_text()


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXTENSION / "package.json").read_text())
    return found


def test_every_setting_stands_in_the_guide_with_its_default() -> None:
    for name, setting in manifest()["contributes"]["configuration"]["properties"].items():
        row = next((line for line in GUIDE.splitlines() if line.startswith("|") and f"`{name}`" in line), "")
        default = setting["default"]
        shown = json.dumps(default) if isinstance(default, bool | int | dict | list) else default or "empty"
        assert shown in row, name


def test_every_setting_is_described_where_it_is_set() -> None:
    for name, setting in manifest()["contributes"]["configuration"]["properties"].items():
        assert setting.get("description") or setting.get("markdownDescription"), name


def test_what_starts_a_program_or_finds_a_token_cannot_be_set_by_a_workspace() -> None:
    properties = manifest()["contributes"]["configuration"]["properties"]
    assert {name for name, one in properties.items() if one.get("scope") == "machine"} == {
        "sordino.base",
        "sordino.serveAlone",
        "sordino.command",
        "sordino.folder",
    }


def test_every_command_is_registered() -> None:
    source = (EXTENSION / "src" / "extension.ts").read_text()
    registered = set(re.findall(r'command\("(\w+)"', source))
    assert registered >= {
        one["command"].removeprefix("sordino.") for one in manifest()["contributes"]["commands"]
    }


def test_nothing_is_needed_at_run_time_and_the_lock_names_no_registry() -> None:
    assert "dependencies" not in manifest()
    assert '"resolved"' not in (EXTENSION / "package-lock.json").read_text()
    for source in (EXTENSION / "src").rglob("*.ts"):
        imported = re.findall(r'from "([^"]+)"', source.read_text())
        assert all(name.startswith((".", "node:")) or name == "vscode" for name in imported), source.name
