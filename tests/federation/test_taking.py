"""Real members and what they take: an honest coordinator's release may hurt one of them, and no coordinator decides."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.completion.test_taking import choose
from tests.federation import inprocess
from tests.loaded import loaded_by

import sordino_client.completion as package
from sordino_client.completion import bundle as bundles
from sordino_client.completion.memory.store import Store
from sordino_client.completion.taking import record
from sordino_client.completion.taking.choice import EVERYTHING
from sordino_client.round.serving import serve
from sordino_coordinator.federation import Federation
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.architecture import merged
from sordino_platform.durable import make_folder, write_file
from sordino_platform.proposal import quantiser_for
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.secagg import MaskedStatistics

RATE, LONG = 3.0, 0.45
"""The server's step, and the length of every member's update: as far as the charter lets a round go."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for number, source in enumerate(sorted(Path(package.__file__).parent.glob("*.py"))[:8]):
        place = folder / f"part{number // 2}" / source.name
        place.parent.mkdir(exist_ok=True)
        place.write_text(source.read_text())
    return folder


def store_nonsense(member: Any, federation: Federation) -> None:
    """Puts the same random update where each member's training would leave its own."""
    membership = federation.membership
    quantiser = quantiser_for(federation.config, federation.plan, members=len(membership.members), shares=1)
    vector = np.random.default_rng(0).standard_normal(quantiser.dimension).astype(np.float32)
    vector *= LONG / np.linalg.norm(vector)
    quantised = quantiser.quantise(vector, 1.0, MaskedStatistics(examples=8), secrets.token_bytes)
    place = member.folder / "round" / f"{federation.run}-1"
    make_folder(place)
    write_file(place / "quantised.bin", quantised.encode(), secret=True)


def chosen(folder: Path, repository: Path) -> dict[str, Any]:
    """What the member in `folder` chooses, in the process that its endpoint would start."""
    return choose(folder / "completion", repository, 0.5)


def test_a_release_that_every_check_passes_and_that_hurts_is_adopted_and_not_taken(
    tmp_path: Path, repository: Path
) -> None:
    place = tmp_path / "federation"
    inprocess.found_in(
        place,
        of_members={"repositories": [str(repository)], "minimum_units": 1},
        server_optimiser={"learning_rate": RATE},
    )
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        alder = members["alder"]
        serve(alder)
        assert record.read(alder.folder / "completion") is None
        grid = inprocess.InProcessGrid(members, run=7)
        for member in members.values():
            store_nonsense(member, federation)
        SecureFedAvg(federation).one_round(grid)
        assert federation.rounds.rounds()[0].outcome is Outcome.COMPLETED
        assert alder.newest_release() == 1
        founding, folder = merged(alder.parameters), alder.folder
    state = folder / "completion"
    begins = bundles.current(state / "begins")
    assert begins is not None
    weights = bundles.load(begins).weights
    assert all(np.array_equal(weights[name], value) for name, value in founding.items())
    make_folder(state / "memory")
    texts = {path.name: path.read_text() for path in repository.rglob("*.py")}
    Store(state / "memory").refresh(texts, Tokenizer.shipped())
    found = chosen(folder, repository)
    assert found["taking"]["share"] < 1, found["tried"]
    assert found["choosing"]["taken"] < found["choosing"]["everything"]
    assert found["telling"]["taken"] < found["telling"]["everything"]
    assert record.taken(state) != EVERYTHING
    # Another release is not a word of the coordinator's either: the choice stands until the member has made a new one.
    with inprocess.opened(place) as members:
        serve(members["alder"])
    assert record.taken(state).share == found["taking"]["share"]


def test_the_agent_that_talks_to_the_coordinator_loads_nothing_that_chooses() -> None:
    """A proposal or a release reaches the agent; what chooses is in no process that reads one."""
    modules = loaded_by("sordino_client.agent.up")
    assert {name for name in modules if name.startswith("sordino_client.completion.taking")} <= {
        "sordino_client.completion.taking",
        "sordino_client.completion.taking.choice",
        "sordino_client.completion.taking.record",  # `client status` reads it
    }
