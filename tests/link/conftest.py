"""Makes the area's parts importable as `tests.link.…`, however pytest was started; a coordinator that cleans up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    # At the end, so that no folder of the project can shadow an installed or standard package.
    sys.path.append(ROOT)

from tests.link.parties import Coordinator, Party  # noqa: E402 - needs the path above
from tests.link.pki import Authority  # noqa: E402


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The federation's CA."""
    return Authority("federation CA")


@pytest.fixture
def launch(authority: Authority) -> Iterator[Callable[..., Party]]:
    """Starts coordinators and members, and stops them all at the end."""
    parties: list[Party] = []

    def start(party: Party) -> Party:
        parties.append(party)
        party.start()
        return party

    yield start
    for party in reversed(parties):
        party.stop()


@pytest.fixture
def coordinator(authority: Authority, launch: Callable[..., Party]) -> Coordinator:
    """A coordinator on a free port of 127.0.0.1, with short waits."""
    party = Coordinator(authority)
    launch(party)
    return party
