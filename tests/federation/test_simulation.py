"""The same two app objects under stock `flwr run`, in Flower's simulation engine, with ten virtual members."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sordino_coordinator.rounds import Outcome, RoundStore
from sordino_platform.demo.virtual import found_virtual
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore
from sordino_platform.telemetry import follow_log

APP = Path(__file__).parents[2] / "deploy" / "flower"
MEMBERS = 10


def processes_of(home: Path) -> Iterator[int]:
    """Processes that Flower started with this home: its local SuperLink detaches itself, Ray outlives a failure."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and f"FLWR_HOME={home}".encode() in (entry / "environ").read_bytes():
                yield int(entry.name)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    home = tmp_path / "flower-home"
    home.mkdir()
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    yield {**os.environ, **quiet, "FLWR_HOME": str(home), "PATH": path, "OMP_NUM_THREADS": "1"}
    for process in processes_of(home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_virtual_members_complete_a_secure_round_under_flwr_run(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "federation"
    found_virtual(folder, members=MEMBERS)
    command = ["flwr", "run", str(APP), "local", "--stream"]
    command += [
        "--run-config",
        f'federation-folder="{folder}"',
        "--federation-config",
        f"num-supernodes={MEMBERS}",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    store = RoundStore(folder / "coordinator" / "state.sqlite")
    last = store.rounds()[-1]
    store.close()
    assert last.outcome is Outcome.COMPLETED, done.stdout[-3000:]
    assert len(last.members) == MEMBERS
    coordinator = folder / "coordinator"
    head = ReleaseStore(coordinator / "releases", Identity.load(coordinator).charters).head()
    member = folder / "members" / "member-003"
    assert ReleaseStore(member / "releases", Identity.load(member).charters).head() == head
    events, _ = follow_log(coordinator / "events.jsonl")
    assert {event["phase"] for event in events if event["event"] == "phase_finished"} >= {
        "train", "share_keys", "masked_input", "survivors", "unmask", "result",
    }  # fmt: skip
