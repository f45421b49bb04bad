"""One federation that each test gets its own copy of."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.federation import inprocess

from sordino_coordinator.federation import Federation


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation of five members in which nothing has happened but release 0."""
    folder = tmp_path_factory.mktemp("founded") / "federation"
    # Somebody can be retired here at any hour; whatever else changes waits for a person.
    inprocess.found_in(
        folder, of_members={"accept_unasked": ["members_removed"], "minimum_units": 1, "heldout_share": 0.0}
    )
    lines = [f"def twice_{number}(value):\n    return value * 2 + {number}\n" for number in range(60)]
    (folder / "code.py").write_text("\n".join(lines))  # of every member: its repository is the whole folder
    Federation.open(folder / "coordinator").rounds.close()
    return folder


@pytest.fixture
def hub(place: Path) -> Path:
    """The coordinator's folder of that copy."""
    return place / "coordinator"
