"""A real Prometheus scrapes the real exporters: every panel has data, and alerts fire."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from tests.ops.observed import DEPLOY, Registry, load, make_registries, panel_queries, program

from sordino_platform.telemetry import MetricsServer

pytestmark = pytest.mark.deploy

PANELS = [
    (path.stem, title, expr)
    for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
    for title, expr in panel_queries(json.loads(path.read_text()))
]
DEADLINE_SECONDS = 60.0


def observe(registry: Registry) -> None:
    """Something happens in every metric, under every label."""
    for collector in list(registry.metrics.registry._collector_to_names):
        assert isinstance(collector, Counter | Gauge | Histogram)
        (family,) = collector.collect()
        children = [{k: v for k, v in s.labels.items() if k != "le"} for s in family.samples]
        for labels in children or [{}]:
            child = collector.labels(**labels) if labels else collector
            if isinstance(child, Counter):
                child.inc()
            elif isinstance(child, Histogram):
                child.observe(0.3)
            elif family.name.endswith("_timestamp_seconds"):
                child.set(time.time() + 30 * 86400 * ("expiry" in family.name))
            else:
                child.set(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A running server, its registries and the process that scrapes them."""

    address: str
    registries: dict[str, Registry]
    exporters: dict[str, MetricsServer]

    def get(self, path: str, **query: str | float) -> Any:
        """The `data` of an API answer."""
        with urlopen(f"{self.address}/api/v1/{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expr: str) -> list[float]:
        """Every number that the expression gave over the last half minute."""
        now = time.time()
        found = self.get("query_range", query=expr, start=now - 30, end=now, step=1)["result"]
        return [float(value) for series in found for _, value in series["values"]]

    def firing(self, name: str) -> list[dict[str, str]]:
        """The labels of every alert of this name that fires."""
        alerts = self.get("alerts")["alerts"]
        return [a["labels"] for a in alerts if a["labels"]["alertname"] == name and a["state"] == "firing"]

    def until(self, what: Callable[[], object], *, happening: bool = False) -> Any:
        """Waits for a truthy answer; `happening`: things go on being counted meanwhile."""
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            if happening:
                for registry in self.registries.values():
                    observe(registry)
            if answer := what():
                return answer
            time.sleep(1)
        return what()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Our two example configurations as one, scraping every second, with all our rules."""
    folder = tmp_path_factory.mktemp("prometheus")
    registries = make_registries()
    exporters = {job: MetricsServer(registry.metrics, port=0) for job, registry in registries.items()}
    shutil.copytree(DEPLOY / "prometheus/rules", folder / "rules")
    content = load(DEPLOY / "prometheus/coordinator.yml")
    content["scrape_configs"] += load(DEPLOY / "prometheus/member.yml")["scrape_configs"]
    for scrape in content["scrape_configs"]:
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{exporters[scrape['job_name']].port}"]}]
        # The token is asked for by the completion endpoint itself, whose own tests hold that.
        scrape.pop("authorization", None)
    content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    content["rule_files"] = ["rules/*.yml"]
    del content["alerting"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(content))
    port = free_port()
    command = [
        program("prometheus", "apt-get install prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        server = Prometheus(address=f"http://127.0.0.1:{port}", registries=registries, exporters=exporters)
        try:
            ready = server.until(lambda: b"Server is ready" in (folder / "log").read_bytes())
            assert ready, (folder / "log").read_text()
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)
            for exporter in exporters.values():
                exporter.stop()


@pytest.mark.parametrize(("dashboard", "title", "expr"), PANELS)
def test_every_panel_has_data(prometheus: Prometheus, dashboard: str, title: str, expr: str) -> None:
    def finite() -> bool:
        return any(math.isfinite(value) for value in prometheus.values(expr))

    assert prometheus.until(finite, happening=True), f"{dashboard}: {title}: {expr}"


def test_a_forged_message_fires_within_seconds_and_names_its_reason(prometheus: Prometheus) -> None:
    labels = prometheus.until(lambda: prometheus.firing("ForgedMessages"), happening=True)
    assert {label["reason"] for label in labels} == {"signature", "replay", "unknown_client"}
    assert {label["severity"] for label in labels} == {"page"}


def test_a_member_that_spent_its_budget_fires_on_its_own_side_and_at_the_coordinator(
    prometheus: Prometheus,
) -> None:
    both = {"sordino-coordinator", "sordino-member"}

    def jobs() -> set[str]:
        return {label["job"] for label in prometheus.firing("PrivacyBudgetNearlySpent")}

    assert prometheus.until(lambda: jobs() == both, happening=True)
