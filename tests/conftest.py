"""What holds for every test: none reads or writes what belongs to the user who runs it. And a federation to spoil."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = str(Path(__file__).parents[1])
if ROOT not in sys.path:
    # Makes `tests.…` importable, however pytest was started. At the end, so that no folder of the project can shadow an
    # installed or standard package.
    sys.path.append(ROOT)

if TYPE_CHECKING:
    from sordino_coordinator.federation import Federation

STATES = Path(tempfile.mkdtemp(prefix="sordino-tests-"))
os.environ["XDG_STATE_HOME"] = str(STATES)  # for fixtures of a whole module


@pytest.fixture(autouse=True)
def own_state(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own for each test: a machine on which nothing was ever charged. Made when it is used."""
    folder = STATES / f"{abs(hash(request.node.nodeid)):x}"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture
def place(founded: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of what the module's own `founded` made, for one test to change: `coordinator/`, `members/`, `root/`."""
    folder = tmp_path / "federation"
    shutil.copytree(founded, folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # an open coordinator writes its status still


@pytest.fixture
def federation(place: Path) -> Iterator[Federation]:
    """The coordinator's side of it, which tries each round once."""
    from sordino_coordinator.federation import Federation

    opened = Federation.open(place / "coordinator")
    opened.desk.defaults = opened.settings.model_copy(update={"attempts": 1})
    yield opened
    opened.rounds.close()


@pytest.fixture
def own_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training gives way to everything; a process of tests would not get its own back."""
    monkeypatch.setattr("sordino_client.training.personal.give_way", lambda: None)
