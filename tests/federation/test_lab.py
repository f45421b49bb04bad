"""The lab, whole: a federation that goes on for as long as somebody tries things, members killed among them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.federation.test_demo import processes_with

from sordino_client.completion.asking import find_endpoint
from sordino_platform.demo.lab import Lab
from sordino_platform.telemetry import follow_log
from sordino_privacy.errors import ConfigurationError, UsageError

SORDINO = (sys.executable, "-P", "-m", "sordino_platform.cli")
SECONDS = 400.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_lab_makes_releases_outlives_a_killed_member_and_leaves_no_process_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*SORDINO, "lab", "--members", "3", "--folder", "lab", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as lab:
        assert lab.stdout is not None
        facts = json.loads(lab.stdout.readline())
        hub, members = Path(facts["coordinator"]["folder"]), [Path(one["folder"]) for one in facts["members"]]
        assert (Path(facts["root"]) / "root.pin").exists()
        assert Path(facts["coordinator"]["console_token_file"]).stat().st_mode & 0o777 == 0o600
        assert facts["coordinator"]["console"].startswith("http://127.0.0.1:")

        def until(claim: Callable[[], bool]) -> None:
            end = time.monotonic() + SECONDS
            while not claim():
                assert lab.poll() is None, lab.stderr.read() if lab.stderr else ""
                assert time.monotonic() < end, (hub / "events.jsonl").read_text()[-3000:]
                time.sleep(0.2)

        until((hub / "releases" / "000001" / "manifest.json").exists)
        for one, folder in zip(facts["members"], members, strict=True):
            endpoint = find_endpoint(folder / "completion")
            assert endpoint is not None
            assert one["endpoint"] == f"http://127.0.0.1:{endpoint.port}"
            assert endpoint.ask("GET", "/v1/memory") is not None
        os.kill(json.loads((members[0] / "status.json").read_bytes())["pid"], signal.SIGKILL)

        def seen(event: str) -> int:
            events, _ = follow_log(hub / "events.jsonl", start=0)
            return sum(one["event"] == event for one in events)

        until(lambda: seen("member_disconnected") == 1)
        again = [*SORDINO, "client", "up", "--folder", str(members[0])]
        with subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as member:
            until(lambda: seen("member_connected") == 4)  # and all the while the lab goes on
            member.terminate()
        lab.send_signal(signal.SIGINT)
        assert lab.wait(timeout=60) == 0
        assert lab.stdout.read() == ""
    end = time.monotonic() + 20
    while processes_with(str(tmp_path)) and time.monotonic() < end:
        time.sleep(0.2)
    assert processes_with(str(tmp_path)) == []


@pytest.mark.parametrize("members", [2, 6])
def test_a_lab_of_too_few_or_too_many_is_refused(tmp_path: Path, members: int) -> None:
    with pytest.raises(UsageError, match="3 to 5 members"):
        Lab(tmp_path, members=members, on_event=lambda event: None)


def test_a_lab_replaces_nothing_but_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        Lab(tmp_path, members=3, on_event=lambda event: None).run(lambda facts: None)
    assert (tmp_path / "work").read_text() == "mine"
