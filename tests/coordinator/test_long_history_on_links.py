"""A newcomer on a real link, at a coordinator process whose history is longer than any message may be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.coordinator.crew import federation
from tests.coordinator.test_faults import completed
from tests.federation.long_history import put, signed_history

from sordino_coordinator.federation import Federation
from sordino_platform.flower.codec import MAX_HEADER_BYTES
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore

NEWCOMER = "elm"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_newcomer_joins_a_federation_whose_history_no_message_could_hold(
    place: Path, tmp_path: Path
) -> None:
    coordinator = place / "coordinator"
    Federation.open(coordinator).rounds.close()  # makes the first release
    (_, second) = signed_history(coordinator, 1)
    releases = MAX_HEADER_BYTES // len(second.to_bytes()) + 1
    chain = signed_history(coordinator, releases)
    assert sum(len(signed.to_bytes()) for signed in chain) > MAX_HEADER_BYTES
    put(coordinator, chain)
    for folder in (place / "members").iterdir():
        if folder.name != NEWCOMER:
            shutil.copytree(coordinator / "releases", folder / "releases", dirs_exist_ok=True)
    with federation(place, tmp_path / "log", rounds=1, gather_seconds=900.0) as (hub, crew):
        hub.until(lambda: completed(hub.folder) >= 1, 900.0)
        hub.until(lambda: crew.members[NEWCOMER].newest_release() == releases + 1, 300.0)
        assert hub.wait() == 0
        told = [event for event in hub.events() if event["event"] == "catching_up"]
        assert {event["member"] for event in told} == {NEWCOMER}
        assert len(told) >= 4
        (done,) = [event for event in hub.events() if event["event"] == "round_finished"]
        assert NEWCOMER in str(done["members"])
        elm = place / "members" / NEWCOMER
        held = ReleaseStore(elm / "releases", Identity.load(elm).charters).chain()
        assert held == ReleaseStore(coordinator / "releases", Identity.load(coordinator).charters).chain()
        assert not (elm / "coming").exists()
