"""A real federation of three members, watched by a real Prometheus: every panel has data, the right alert fires."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.ops.server import PANELS, Prometheus, prometheus_on, until
from tests.ports import free_port

from sordino_coordinator.rounds import Outcome, RoundStore
from sordino_platform.demo.local import ENVIRONMENT, SORDINO
from sordino_platform.demo.processes import Processes
from sordino_platform.demo.virtual import found_virtual

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.timeout(1800)]

MEMBERS = 3
ROUND_SECONDS = 900.0


def set_in(path: Path, **values: object) -> None:
    """Sets keys of a settings file, in its head, above any table."""
    text = path.read_text()
    for name, value in values.items():
        text = re.sub(rf"(?m)^{name} = .*\n", "", text)
        text = f"{name} = {json.dumps(value)}\n{text}"
    path.write_text(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The federation from outside: one member's endpoint, the coordinator's console and folder, and the Prometheus that
    scrapes them."""

    prometheus: Prometheus
    console: int
    coordinator: Path
    endpoint: int
    token: str

    def ask(self, host: str = "127.0.0.1") -> int:
        """One completion; returns the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.endpoint, timeout=30)
        headers = {"Host": host, "Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = json.dumps({"prompt": "def add(a, b):\n    return ", "max_tokens": 8})
        connection.request("POST", "/v1/completions", body=body, headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Starts coordinator, members and Prometheus, and waits for the first completed round; others follow."""
    folder = tmp_path_factory.mktemp("watched")
    place, logs = folder / "federation", folder / "logs"
    logs.mkdir()
    # More rounds than the tests last, and noise that affords them: members that refuse would end the coordinator.
    found_virtual(place, members=MEMBERS, rounds=200)
    ports = {job: free_port() for job in ("sordino-coordinator", "sordino-member", "sordino-completion")}
    console = free_port()
    set_in(
        place / "coordinator/coordinator.toml",
        metrics_port=ports["sordino-coordinator"],
        console=f"127.0.0.1:{console}",
    )
    members = sorted((place / "members").iterdir())
    first = members[0]
    with Processes(logs) as processes:
        processes.start(
            "coordinator",
            [*SORDINO, "coordinator", "up", "--folder", str(place / "coordinator")],
            ENVIRONMENT,
        )
        address = place / "coordinator/address"
        assert until(address.exists, seconds=120), (logs / "coordinator.log").read_text()
        for member in members:
            # A small share may lie in one folder, which cannot be split; nothing is measured on it here.
            set_in(member / "member.toml", coordinator=address.read_text().strip(), heldout_share=0.0)
        set_in(
            first / "member.toml",
            metrics_port=ports["sordino-member"],
            completion_port=ports["sordino-completion"],
        )
        for member in members:
            processes.start(member.name, [*SORDINO, "client", "up", "--folder", str(member)], ENVIRONMENT)
        token = first / "completion/token"

        def all_run() -> None:
            processes.require(["coordinator", *(member.name for member in members)])

        assert until(token.exists, seconds=300, meanwhile=all_run), (logs / f"{first.name}.log").read_text()
        with prometheus_on(folder / "prometheus", ports, token=token) as prometheus:
            watched = Watched(
                prometheus=prometheus,
                console=console,
                coordinator=place / "coordinator",
                endpoint=ports["sordino-completion"],
                token=token.read_text().strip(),
            )
            completed = 'sordino_rounds_total{outcome="completed"} > 0'
            done = until(lambda: prometheus.values(completed), seconds=ROUND_SECONDS, meanwhile=all_run)
            assert done, (logs / "coordinator.log").read_text()[-4000:]
            yield watched


@pytest.mark.parametrize(("dashboard", "title", "expr"), PANELS)
def test_every_panel_has_data_of_a_real_federation(
    watched: Watched, dashboard: str, title: str, expr: str
) -> None:
    found = until(lambda: watched.prometheus.values(expr), seconds=120, meanwhile=watched.ask)
    assert found, f"{dashboard}: {title}: {expr}"


def test_all_members_are_counted_and_nobody_is_taken_for_a_forger(watched: Watched) -> None:
    assert watched.prometheus.values("sordino_clients_connected")[-1] == MEMBERS
    assert watched.prometheus.values('up{job="sordino-completion"}')[-1] == 1
    assert watched.prometheus.firing("ForgedMessages") == []
    assert watched.prometheus.firing("CoordinatorRefused") == []


def test_a_foreign_host_at_the_endpoint_is_refused_and_alerts(watched: Watched) -> None:
    assert watched.ask() == 200
    assert watched.ask(host="evil.example") == 421
    labels = until(lambda: watched.prometheus.firing("LocalEndpointProbed"), seconds=60)
    assert {label["reason"] for label in labels} == {"host"}


def test_the_console_of_the_running_coordinator_says_that_all_is_well(watched: Watched) -> None:
    token = (watched.coordinator / "console.token").read_text().strip()
    with httpx.Client(
        base_url=f"http://127.0.0.1:{watched.console}", follow_redirects=True, timeout=30
    ) as browser:
        page = browser.post("/login", data={"token": token}).text
    assert "no more than a round needs" not in page  # all three take part: none is missing
    assert "Healthy: nothing to do" in page
    assert f"{MEMBERS} <small>of {MEMBERS} members" in page
    assert "epsilon" in page
    assert page.count(">completed<") >= 1


def test_a_round_s_record_and_its_metrics_tell_the_same_bytes(watched: Watched) -> None:
    store = RoundStore(watched.coordinator / "state.sqlite")
    done = [row for row in store.rounds() if row.outcome is Outcome.COMPLETED]
    store.close()
    # A member that holds the model is not sent it again, so neither direction need be the larger one.
    assert all(row.bytes_in > 0 and row.bytes_out > 0 for row in done)
    received, sent = sum(row.bytes_in for row in done), sum(row.bytes_out for row in done)
    counted = f'sum(sordino_message_bytes_total{{direction="received"}}) >= {received}'
    assert until(lambda: watched.prometheus.values(counted), seconds=30)
    passed_on = f'sum(sordino_message_bytes_total{{direction="sent"}}) >= {sent}'
    assert until(lambda: watched.prometheus.values(passed_on), seconds=30)
