"""Every alert is on something the code measures, says what to do, and has cases in which it fires and does not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.ops.observed import DEPLOY, ROOT, Rule, known_registries, load, read_rules, unknown_parts

RULES = read_rules()
ALERTS = [rule for rule in RULES if rule.alert]
RECORDED = {rule.name for rule in RULES if not rule.alert}
RUNBOOKS = ROOT / "docs/runbooks"
SECTIONS = ("What it means", "What users notice", "First look", "Decide", "Fix", "Verify", "Afterwards")


def name(rule: Rule) -> str:
    return f"{rule.name}-{rule.file.split('.')[0]}"


def cases(rule: Rule) -> list[dict[str, Any]]:
    """The promtool cases of one alert."""
    groups = load(DEPLOY / "prometheus/tests" / rule.file.replace(".rules.", ".test."))["tests"]
    return [
        case
        for group in groups
        for case in group.get("alert_rule_test", [])
        if case["alertname"] == rule.name
    ]


@pytest.mark.parametrize("rule", RULES, ids=name)
def test_a_rule_asks_only_for_what_the_code_measures(rule: Rule) -> None:
    side = rule.file.split(".")[0]
    registries = [
        r
        for job, r in known_registries().items()
        if (job == "sordino-coordinator") == (side == "coordinator")
    ]
    assert not list(unknown_parts(rule.expr, registries, RECORDED))


@pytest.mark.parametrize("rule", ALERTS, ids=name)
def test_an_alert_says_how_urgent_it_is_and_where_its_runbook_stands(rule: Rule) -> None:
    assert rule.labels["severity"] in {"page", "ticket"}
    assert rule.annotations["summary"].strip()
    assert rule.annotations["runbook"] == f"docs/runbooks/{rule.name}.md"
    assert (ROOT / rule.annotations["runbook"]).is_file()


@pytest.mark.parametrize("rule", ALERTS, ids=name)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(rule: Rule) -> None:
    expected = [case["exp_alerts"] for case in cases(rule)]
    assert any(expected), "no case in which it fires"
    assert not all(expected), "no case in which it stays silent"


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("[A-Z]*.md")), ids=lambda path: path.stem)
def test_a_runbook_has_every_section_in_order_and_an_alert_that_leads_to_it(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    if path.stem == "README":
        assert all(f"]({rule.name}.md)" in text for rule in ALERTS)
        return
    assert path.stem in {rule.name for rule in ALERTS}
    assert tuple(re.findall(r"^## (.+)$", text, flags=re.MULTILINE)) == SECTIONS
    severities = {rule.labels["severity"] for rule in ALERTS if rule.name == path.stem}
    assert all(f"**{severity}**" in text for severity in severities)


@pytest.mark.parametrize(
    ("expr", "problem"),
    [
        ("sordino_round_total", "no registry has sordino_round_total"),
        ('sordino_rounds_total{result="completed"}', "sordino_rounds_total has no label result"),
        ('sordino_rounds_total{outcome="done"}', "sordino_rounds_total: outcome is never 'done'"),
        (
            'sordino_rounds_total{outcome=~"completed|failed_.+"}',
            "sordino_rounds_total: no outcome is like 'failed_.+'",
        ),
        ("rate(sordino_round_duration_seconds[5m])", "no registry has sordino_round_duration_seconds"),
        ('up{job="sordino"}', "up: job is never 'sordino'"),
    ],
)
def test_a_name_that_the_code_does_not_have_is_found(expr: str, problem: str) -> None:
    assert list(unknown_parts(expr, known_registries().values(), RECORDED)) == [problem]
