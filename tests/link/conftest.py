"""Coordinators and members on a link, that clean up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.link.parties import Coordinator, Party
from tests.link.pki import Authority


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
