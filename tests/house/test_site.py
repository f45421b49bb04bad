"""The documentation site: every page is in its menu, and its reference says what the code does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from sordino_client.settings import MemberSettings
from sordino_coordinator.settings import CoordinatorSettings
from sordino_platform import cli

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """docs/site/build.py, which is run by `make docs` and is part of no package."""
    sys.path.insert(0, str(SITE))
    try:
        spec = importlib.util.spec_from_file_location("site_build", SITE / "build.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(SITE))


def test_the_menu_leads_to_every_page_and_to_nothing_else(site: ModuleType) -> None:
    docs = ROOT / "docs"
    menu = set(site.listed(site.with_folders((SITE / "zensical.toml").read_text(encoding="utf-8"), docs)))
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    made = {*site.TOP, *(f"reference/{name}.md" for name in site.reference.PAGES)}
    assert menu == pages | made


def test_every_command_stands_in_the_reference(site: ModuleType) -> None:
    page = site.reference.commands()
    root = cli.LazyCommands()
    for name in root.list_commands(click.Context(root)):
        assert f"## `sordino {name}`\n" in page
        command = root.get_command(click.Context(root), name)
        if isinstance(command, click.Group):
            for below in command.list_commands(click.Context(command)):
                assert f"### `sordino {name} {below}`\n" in page


def test_every_setting_stands_in_the_reference_with_what_it_means(site: ModuleType) -> None:
    page = site.reference.settings()
    for name in {*MemberSettings.model_fields, *CoordinatorSettings.model_fields}:
        (row, *_) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert row.removesuffix("|").rsplit("|", 1)[1].strip() or name in {"version", "plan", "optimiser"}, (
            row
        )


def test_every_alert_and_every_local_route_stands_in_the_reference(site: ModuleType) -> None:
    alerts, interfaces = site.reference.alerts(), site.reference.interfaces()
    for path in (ROOT / "docs" / "runbooks").glob("*.md"):
        assert path.stem == "README" or f"## {path.stem}\n" in alerts
    for route in (
        "/v1/completions",
        "/infill",
        "/v1/memory",
        "/v1/member/agree",
        "/v1/rollback",
        "/v1/status",
    ):
        assert f"`{route}`" in interfaces
