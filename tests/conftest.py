"""What holds for every test: no test reads or writes what belongs to the user who runs it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

STATES = Path(tempfile.mkdtemp(prefix="sordino-tests-"))
os.environ["XDG_STATE_HOME"] = str(STATES)  # for fixtures of a whole module


@pytest.fixture(autouse=True)
def own_state(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own for each test: a machine on which nothing was ever charged. Made when it is used."""
    folder = STATES / f"{abs(hash(request.node.nodeid)):x}"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder
