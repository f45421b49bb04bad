"""A federation of three members and a coordinator is founded by real commands, which are counted; all are connected.

Run by `make test-all`: three agents and a coordinator start for real.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.federation.typed import MEMBERS, Script, founded

MOST_COMMANDS = 8


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    with ExitStack() as stack:
        yield Script(tmp_path, stack)


@pytest.mark.slow
def test_three_members_and_a_coordinator_are_founded_in_at_most_eight_commands(script: Script) -> None:
    place, began = script.place, time.monotonic()
    founded(script)
    script.start("coordinator up --folder hub --console 127.0.0.1:0")

    def connected() -> set[object]:
        events = place / "hub" / "events.jsonl"
        lines = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
        return {line["member"] for line in lines if line["event"] == "member_connected"}

    script.until(lambda: connected() == set(MEMBERS))
    assert all(script.running[name].poll() is None for name in MEMBERS)
    print(f"\n{len(script.typed)} commands, {time.monotonic() - began:.0f} seconds:")
    print("\n".join(script.typed))
    assert len(script.typed) <= MOST_COMMANDS
    # No private key left the folder that made it, and no code works any more.
    requests = [f"{name}.request.json" for name in ("hub", *MEMBERS)]
    for path in [place / "enrolled.json", *(place / request for request in requests)]:
        assert b"PRIVATE" not in path.read_bytes()
    assert not list((place / "root" / "invitations").glob("*.json"))
