"""Logs are JSON lines with a closed vocabulary: what is not listed cannot reach them, whoever logs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sordino_platform.telemetry import LOGGABLE

SENTINEL = "def secret_algorithm(): pass  # 4111-1111"
PROGRAM = """
import logging, sys
from pathlib import Path
from sordino_platform.telemetry import configure_logging, log

configure_logging(Path(sys.argv[1]))
sentinel = sys.argv[2]
log().info("round_started", round=3, members=["alder"], prompt=sentinel, code=sentinel, token=sentinel)
log().warning("member_dropped", update=[1.0, 2.0], key=sentinel.encode(), member="alder")
log().bind(completion=sentinel).info("release", release=4)
logging.getLogger("some.library").warning("a library's own line")
logging.getLogger("httpx").info("POST http://127.0.0.1/v1/completions")
"""


@pytest.fixture
def logged(tmp_path: Path) -> tuple[Path, str]:
    """The event file and stderr of a process that tried to log what must not be logged."""
    events = tmp_path / "state" / "events.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(events), SENTINEL], capture_output=True, text=True, check=True
    )
    return events, done.stderr


def test_a_field_that_is_not_listed_is_dropped_and_its_value_is_nowhere(logged: tuple[Path, str]) -> None:
    events, stderr = logged
    for sink in (events.read_text(), stderr):
        assert SENTINEL not in sink
        assert "4111" not in sink
        assert "[1.0, 2.0]" not in sink
    first, second, third, *_ = map(json.loads, events.read_text().splitlines())
    assert (first["event"], first["round"], first["members"]) == ("round_started", 3, ["alder"])
    assert first["reason"] == "dropped 3 unlisted field(s)"
    assert (second["member"], second["reason"]) == ("alder", "dropped 2 unlisted field(s)")
    assert (third["release"], third["reason"]) == (4, "dropped 1 unlisted field(s)")


def test_every_line_is_json_with_a_time_and_a_level_and_noisy_libraries_are_quiet(
    logged: tuple[Path, str],
) -> None:
    events, stderr = logged
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert len(lines) == 4
    for line in lines:
        assert line["timestamp"].endswith("Z")
        assert line["level"] in {"info", "warning"}
        assert set(line) <= LOGGABLE
    assert "v1/completions" not in events.read_text() + stderr


def test_the_file_is_its_owners_alone(logged: tuple[Path, str]) -> None:
    events, _ = logged
    assert events.stat().st_mode & 0o777 == 0o600
    assert events.parent.stat().st_mode & 0o777 == 0o700


def test_no_listed_field_is_one_that_could_hold_data() -> None:
    forbidden = {
        "prompt",
        "code",
        "text",
        "completion",
        "update",
        "vector",
        "key",
        "token",
        "secret",
        "password",
    }
    assert not LOGGABLE & forbidden
