"""A real Prometheus scrapes the real exporters: every panel has data, and alerts fire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from prometheus_client import Counter, Gauge, Histogram
from tests.ops.observed import Registry, make_registries
from tests.ops.server import PANELS, Prometheus, prometheus_on, until

from sordino_platform.web.metrics import MetricsServer

pytestmark = pytest.mark.deploy

SECONDS = 60.0


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
class Observed:
    """A Prometheus, and the registries that it scrapes."""

    prometheus: Prometheus
    registries: dict[str, Registry]

    def happen(self) -> None:
        for registry in self.registries.values():
            observe(registry)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    registries = make_registries()
    exporters = {job: MetricsServer(registry.metrics, port=0) for job, registry in registries.items()}
    ports = {job: exporter.port for job, exporter in exporters.items()}
    with prometheus_on(tmp_path_factory.mktemp("prometheus"), ports) as prometheus:
        yield Observed(prometheus=prometheus, registries=registries)
    for exporter in exporters.values():
        exporter.stop()


@pytest.mark.parametrize(("dashboard", "title", "expr"), PANELS)
def test_every_panel_has_data(observed: Observed, dashboard: str, title: str, expr: str) -> None:
    found = until(lambda: observed.prometheus.values(expr), seconds=SECONDS, meanwhile=observed.happen)
    assert found, f"{dashboard}: {title}: {expr}"


def test_a_forged_message_fires_within_seconds_and_names_its_reason(observed: Observed) -> None:
    labels = until(
        lambda: observed.prometheus.firing("ForgedMessages"), seconds=SECONDS, meanwhile=observed.happen
    )
    assert {label["reason"] for label in labels} == {"signature", "replay", "unknown_client"}
    assert {label["severity"] for label in labels} == {"page"}


def test_a_member_that_spent_its_budget_fires_on_its_own_side_and_at_the_coordinator(
    observed: Observed,
) -> None:
    both = {"sordino-coordinator", "sordino-member"}

    def jobs() -> set[str]:
        return {label["job"] for label in observed.prometheus.firing("PrivacyBudgetNearlySpent")}

    assert until(lambda: jobs() == both, seconds=SECONDS, meanwhile=observed.happen)
