"""What is observed: the registries as they are in the code, and what rules and dashboards ask of them."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Metric
from promql_parser import Expr, MatchOp, VectorSelector, parse, walk

from sordino_client.completion.api.metrics import CompletionMetrics
from sordino_client.metrics import MemberMetrics
from sordino_coordinator.metrics import CoordinatorMetrics
from sordino_platform.telemetry import Metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MEMBERS = ("alder", "birch", "cedar", "dogwood", "elder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric of one registry: its type, its help, and each label's closed list of values (`le` left out)."""

    name: str
    kind: str
    text: str
    labels: dict[str, set[str]]

    @property
    def series(self) -> set[str]:
        """The names under which Prometheus stores it."""
        if self.kind == "histogram":
            return {f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
        return {self.name}


class Registry:
    """One side's metrics, under the job that scrapes them."""

    def __init__(self, job: str, metrics: Metrics) -> None:
        self.job, self.metrics = job, metrics
        self.families = {family.name: family for family in map(read_family, metrics.registry.collect())}

    def serving(self, series: str) -> Family | None:
        """The family that stores this series, if any does."""
        return next((family for family in self.families.values() if series in family.series), None)


def read_family(metric: Metric) -> Family:
    """A family as it is exposed, with `_total` for counters."""
    labels: dict[str, set[str]] = {}
    for sample in metric.samples:
        for name, value in sample.labels.items():
            if name != "le":
                labels.setdefault(name, set()).add(value)
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return Family(name=name, kind=metric.type, text=metric.documentation, labels=labels)


def make_registries() -> dict[str, Registry]:
    """Every registry of the product, fresh, by the job that scrapes it."""
    made = {
        "sordino-coordinator": CoordinatorMetrics(members=MEMBERS).metrics,
        "sordino-member": MemberMetrics().metrics,
        "sordino-completion": CompletionMetrics().registry,
    }
    return {job: Registry(job, metrics) for job, metrics in made.items()}


known_registries = cache(make_registries)  # for whoever only reads their names


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A recording rule or an alert, and the file it stands in."""

    file: str
    name: str
    expr: str
    alert: bool
    labels: dict[str, str]
    annotations: dict[str, str]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def read_rules() -> list[Rule]:
    """Every rule of deploy/prometheus/rules."""
    return [
        Rule(
            file=path.name,
            name=rule.get("alert") or rule["record"],
            expr=rule["expr"],
            alert="alert" in rule,
            labels=rule.get("labels", {}),
            annotations=rule.get("annotations", {}),
        )
        for path in sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
        for group in load(path)["groups"]
        for rule in group["rules"]
    ]


def selectors(expr: str) -> list[VectorSelector]:
    """Every selector of an expression. Raises ValueError when it is not PromQL."""
    found: list[VectorSelector] = []

    def visit(node: Expr) -> bool:
        if isinstance(node, VectorSelector):
            found.append(node)
        return True

    walk(parse(expr), visit)
    return found


def unknown_parts(expr: str, registries: Collection[Registry], recorded: Iterable[str]) -> Iterator[str]:
    """What an expression asks for and no registry can give: a metric, a label, or a value outside its enum."""
    targets = {"job": {registry.job for registry in registries}, "instance": {"anything"}}
    for selector in selectors(expr):
        name = selector.name or ""
        if name in recorded:
            continue
        family = Family(name="up", kind="gauge", text="", labels={}) if name == "up" else None
        family = family or next((f for r in registries if (f := r.serving(name))), None)
        if family is None:
            yield f"no registry has {name}"
            continue
        for matcher in selector.matchers.matchers:
            values = {**targets, **family.labels}.get(matcher.name)
            if values is None:
                yield f"{name} has no label {matcher.name}"
            elif matcher.op in (MatchOp.Equal, MatchOp.NotEqual) and matcher.value not in {*values, ""}:
                yield f"{name}: {matcher.name} is never {matcher.value!r}"
            elif matcher.op in (MatchOp.Re, MatchOp.NotRe) and matcher.name != "instance":
                for choice in matcher.value.split("|"):
                    if not any(re.fullmatch(choice, value) for value in values):
                        yield f"{name}: no {matcher.name} is like {choice!r}"


def panel_queries(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """Every panel's title and query, with Grafana's variables replaced as Grafana would for a short range."""
    replaced = {"$__rate_interval": "1m", "$instance": ".*"}
    found = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expr = target["expr"]
            for variable, value in replaced.items():
                expr = expr.replace(variable, value)
            found.append((panel["title"], expr))
    return found


def program(name: str, origin: str) -> str:
    """The path of a program that `make test-deploy` needs. Absent, the test fails and says what installs it."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found, f"{name} is missing: {origin}"
    return found
