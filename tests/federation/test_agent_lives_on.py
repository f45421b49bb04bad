"""A real agent over the life of its certificate: renews by itself, is told of its retirement, goes on completing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.coordinator.crew import Hub
from tests.federation import inprocess
from tests.link.parties import QUICK, Coordinator
from tests.link.pki import Authority

from sordino_client.agent import connection
from sordino_client.agent.connection import Connection
from sordino_client.agent.renewing import Renewing
from sordino_client.completion.asking import Endpoint, find_endpoint
from sordino_client.metrics import MemberMetrics
from sordino_client.status import read_agent_status
from sordino_coordinator.clerk import Clerk
from sordino_coordinator.metrics import CoordinatorMetrics
from sordino_platform.identity import Identity, install, make_request
from sordino_platform.identity import authority as root
from sordino_platform.identity.renewal import RenewalBox
from sordino_platform.link import ClientTls, LinkClient, LinkState, LinkStatus
from sordino_platform.machine.processes import start_bound

SORDINO = (sys.executable, "-P", "-m", "sordino_platform.cli")
SECONDS = 120.0


def until(claim: Callable[[], Any], log: Path) -> Any:
    end = time.monotonic() + SECONDS
    while not (value := claim()):
        assert time.monotonic() < end, log.read_text()[-4000:]
        time.sleep(0.1)
    return value


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A federation in which alder's certificate was issued 25 days ago, for 30."""
    folder, repository = tmp_path / "federation", tmp_path / "repository"
    for number in range(8):
        package = repository / f"package{number}"
        package.mkdir(parents=True)
        lines = [f"def f_{number}_{i}(value):\n    return value * {i} + {number}\n" for i in range(60)]
        (package / f"code{number}.py").write_text("\n".join(lines))
    inprocess.found_in(
        folder,
        of_members={"repositories": [str(repository)], "minimum_units": 1, "heldout_share": 0.0},
        listen="127.0.0.1:0",
        rounds=0,
    )
    alder, then = folder / "members" / "alder", datetime.now(UTC) - timedelta(days=25)
    for path in (folder / "root" / "issued").glob("member.alder.*"):
        path.unlink()  # so that a request of 25 days ago is not older than the last
    reply = root.approve(folder / "root", make_request(alder, now=then), now=then + timedelta(minutes=1))
    install(alder, reply)
    return folder


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def agent(folder: Path, log: Path, stack: ExitStack) -> subprocess.Popen[bytes]:
    """`sordino client up`, ended with the test."""
    with log.open("ab") as output:
        process = start_bound(
            [*SORDINO, "client", "up", "--folder", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def end() -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)
    return process


def test_an_agent_renews_by_itself_and_outlives_its_retirement(
    place: Path, tmp_path: Path, processes: ExitStack
) -> None:
    hub, log = Hub(place / "coordinator", tmp_path / "hub.log"), tmp_path / "agent.log"
    address = hub.start()
    processes.callback(hub.kill)
    settings = hub.folder / "coordinator.toml"
    settings.write_text(settings.read_text().replace("127.0.0.1:0", address))  # the same after a restart
    alder = place / "members" / "alder"
    text = (alder / "member.toml").read_text()
    (alder / "member.toml").write_text(text.replace("127.0.0.1:1", address))
    running = agent(alder, log, processes)

    def link() -> Any:
        return json.loads((alder / "status.json").read_bytes()) if (alder / "status.json").exists() else {}

    until(lambda: link().get("link") == "connected", log)
    until(lambda: [one.name for one in RenewalBox(hub.folder).waiting()] == ["alder"], log)
    before = Identity.load(alder).tls()
    assert before.remaining() < timedelta(days=6)
    done = subprocess.run(
        [*SORDINO, "identity", "approve", str(place / "root"), "--at", str(hub.folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "1 certificate(s) delivered: alder" in done.stdout
    hub.kill()
    hub.start()  # the agent connects again, and asks again
    until(lambda: Identity.load(alder).tls().remaining() > timedelta(days=29), log)
    assert Identity.load(alder).tls().private_key != before.private_key

    root.retire(place / "root", "alder")
    Identity.load(hub.folder).charters.accept(root.sign_epoch(place / "root").to_bytes())
    until(lambda: link().get("link") == "refused", log)  # in silence: no round runs
    assert running.poll() is None
    facts = read_agent_status(alder)
    assert facts["running"]
    assert "'alder' is not a member of test in epoch 2" in facts["message"]
    assert "not retired" in facts["hint"]
    completion = until(lambda: find_endpoint(alder / "completion"), log)
    assert completion.ask("GET", "/v1/memory") is not None
    told = control(alder).ask("GET", "/v1/member")
    assert told["link"]["state"] == "refused"
    assert "not retired" in told["link"]["hint"]
    assert told["certificate"]["certificate_warning"] == ""


def control(folder: Path) -> Endpoint:
    place = folder / "control"
    port = json.loads((place / "control.json").read_bytes())["port"]
    return Endpoint(host="127.0.0.1", port=port, token=(place / "token").read_text().strip())


def test_a_refused_link_waits_and_comes_back_when_something_here_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    authority = Authority("federation CA")
    hub = Coordinator(authority, limits=replace(QUICK, admission_seconds=0.05))
    hub.start()
    (tmp_path / "tls.pem").write_bytes(b"the first")
    said: list[LinkStatus] = []
    tls = ClientTls(**authority.issue("alice"))

    def make() -> LinkClient:
        return LinkClient(
            hub.target,
            tls=tls,
            handler=lambda request: bytes(request.payload),
            limits=QUICK,
            on_status=said.append,
        )

    link = Connection(tmp_path, make, said.append)
    thread = threading.Thread(target=link.run, daemon=True)
    thread.start()

    def stands(state: LinkState) -> bool:
        return bool(said) and said[-1].state is state

    log = tmp_path / "log"
    log.write_text("")
    until(lambda: stands(LinkState.CONNECTED), log)
    hub.retired.add("alice")
    until(lambda: stands(LinkState.REFUSED), log)
    assert "was retired in epoch 2" in said[-1].message
    assert said[-1].retry_seconds > 600
    hub.retired.clear()
    (tmp_path / "tls.pem").write_bytes(b"another")
    until(lambda: stands(LinkState.CONNECTED), log)
    assert hub.ask("alice", b"work") == b"work"
    link.stop()
    thread.join(10)
    assert not thread.is_alive()
    hub.stop()


def test_both_sides_ask_in_time_and_warn_thirty_seven_and_one_days_before(place: Path) -> None:
    """The same clock for both: nothing sleeps, the moment is an argument."""
    now = datetime.now(UTC)
    asked: list[bytes] = []
    hub, birch = (Identity.load(place / where) for where in ("coordinator", "members/birch"))
    for folder in (hub.folder, birch.folder):
        name = Identity.load(folder).card.name
        for path in (place / "root" / "issued").glob(f"*.{name}.*"):
            path.unlink()
        reply = root.approve(place / "root", make_request(folder), validity=timedelta(days=300))
        install(folder, reply)
    metrics = CoordinatorMetrics(members=("birch",))
    clerk, renewing = Clerk(hub, metrics), Renewing(birch, MemberMetrics(), asked.append)
    box = RenewalBox(hub.folder)
    said: list[tuple[int, int]] = []
    for day in (0, 199, 201, 271, 272, 294, 299.5, 301):
        with capture_logs() as logs:
            clerk.tick(now + timedelta(days=day))
            renewing.tick(now + timedelta(days=day))
        warnings = [one["error"] for one in logs if one["event"] == "certificate_expiring"]
        said.append((len(warnings), sum("within 30" in one for one in warnings)))
        assert [bool(one) for one in asked[-1:]] == [day > 200]
        assert bool(box.waiting()) == (day > 200)
    # Once each, on both sides: at 30 days, at 7, at 1, at the end.
    assert said == [(0, 0), (0, 0), (0, 0), (2, 2), (0, 0), (2, 0), (2, 0), (2, 0)]
