"""A federation that has run rounds.

The members are real (keys, ledger, protocol); only the wire and the training are absent, see tests/federation.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.asked_for import leave_out
from tests.federation import inprocess

from sordino_coordinator.console import TOKEN_FILE, Console
from sordino_coordinator.federation import Federation
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.flower.phases import Phase
from sordino_platform.identity import Identity
from sordino_platform.telemetry import configure_logging, log


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs Chromium; run by `make test-browser`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked `browser` unless it was asked for, as `make test-browser` does."""
    leave_out("browser", config, items)


ORGANISATIONS = {
    "alder": "<script>alert(1)</script>",
    "birch": '"><img src=x onerror=alert(2)>',
    "cedar": "Cedar & Sons {{ 7 * 7 }} {% raw %}",
    "dogwood": "Dogwood' style='display:none",
    "elm": "Ulme GmbH & Co. KG",
}
# Round 1 completes, round 2 loses a member, round 3 loses too many.
SILENT: dict[int, set[tuple[Phase, str]]] = {
    1: set(),
    2: {(Phase.UPLOAD, "elm")},
    3: {(Phase.UPLOAD, "elm"), (Phase.UPLOAD, "cedar")},
}


def make(folder: Path) -> Federation:
    """A federation that has run three rounds, its log and its metrics."""
    inprocess.found_in(
        folder,
        organisations=ORGANISATIONS,
        console="127.0.0.1:0",
        attempts=1,
        exchange_seconds=2.0,
        heldout=[str(Path(__file__).parents[2] / "privacy")],
        heldout_tokens=1000,
    )
    configure_logging(folder / "coordinator/events.jsonl", console=False)
    federation = Federation.open(folder / "coordinator")
    log().info("model", release=0, loss=federation.loss)
    return federation


def run_rounds(folder: Path, federation: Federation) -> None:
    """Three rounds, see SILENT."""
    for name in inprocess.NAMES:
        log().info("member_connected", member=name)
        ends = Identity.load(folder / "members" / name).tls().expires_at
        federation.rounds.note_member(name, certificate_expires=ends.timestamp())
    with inprocess.opened(folder) as members:
        for number, silent in SILENT.items():
            grid = inprocess.InProcessGrid(members, run=7)
            grid.absent = {(phase.message_type, name) for phase, name in silent}
            for index, member in enumerate(members.values()):
                inprocess.store_update(member, federation, number, 1e-5 * (1 + index))
            SecureFedAvg(federation).one_round(grid)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Founded, and served by a console from before its first round."""
    made = make(tmp_path_factory.mktemp("console") / "federation")
    yield made
    made.rounds.close()
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)


@pytest.fixture(scope="module")
def console(federation: Federation) -> Iterator[Console]:
    """The console of the federation, after three rounds."""
    serving = Console(federation)
    run_rounds(federation.folder.parent, federation)
    yield serving
    serving.stop()


@pytest.fixture
def visitor(console: Console) -> Iterator[httpx.Client]:
    """A browser without a session; redirects are not followed."""
    with httpx.Client(base_url=f"http://127.0.0.1:{console.port}", timeout=30) as client:
        yield client


@pytest.fixture
def token(federation: Federation) -> str:
    """The operator's token."""
    return (federation.folder / TOKEN_FILE).read_text().strip()


@pytest.fixture
def operator(visitor: httpx.Client, token: str) -> httpx.Client:
    """A browser that has signed in."""
    assert visitor.post("/login", data={"token": token}).status_code == 303
    return visitor


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium. The driver has no types in our lock: only `make test-browser` installs it."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no Chromium; on Debian: apt-get install chromium"
    with import_module("playwright.sync_api").sync_playwright() as playwright:
        # Chromium's own sandbox needs a user that is not root; CI containers are root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()
