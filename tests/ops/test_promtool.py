"""Prometheus' and Alertmanager's own checkers on what we ship."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.ops.observed import DEPLOY, Rule, load, make_registries, program, read_rules

pytestmark = pytest.mark.deploy

PROMETHEUS = DEPLOY / "prometheus"
PACKAGE = "apt-get install prometheus prometheus-alertmanager"


def run(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    name, *rest = arguments
    command = [program(str(name), PACKAGE), *map(str, rest)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def passes(*arguments: str | Path, text: str | None = None) -> None:
    done = run(*arguments, text=text)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(PROMETHEUS.glob("rules/*.yml")), ids=lambda path: path.stem)
def test_promtool_accepts_the_rules(path: Path) -> None:
    passes("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)


@pytest.mark.parametrize("path", sorted(PROMETHEUS.glob("tests/*.yml")), ids=lambda path: path.stem)
def test_every_case_of_every_rule_holds(path: Path) -> None:
    passes("promtool", "test", "rules", path)


@pytest.mark.parametrize("expr", ["vector(1) > 2", "vector(1)"], ids=["never", "always"])
@pytest.mark.parametrize("rule", read_rules(), ids=lambda rule: f"{rule.name}-{rule.file.split('.')[0]}")
def test_the_cases_notice_a_rule_that_never_or_always_fires(rule: Rule, expr: str, tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "rules" / rule.file
    content = load(file)
    (target,) = (
        r
        for group in content["groups"]
        for r in group["rules"]
        if rule.name in (r.get("alert"), r.get("record"))
    )
    target["expr"] = expr
    file.write_text(yaml.safe_dump(content))
    assert (
        run(
            "promtool", "test", "rules", tmp_path / "tests" / rule.file.replace(".rules.", ".test.")
        ).returncode
        == 1
    )


@pytest.mark.parametrize("side", ["coordinator", "member"])
def test_promtool_accepts_the_example_configuration(side: str, tmp_path: Path) -> None:
    content = load(PROMETHEUS / f"{side}.yml")
    (tmp_path / "token").write_text("a token that promtool only looks for\n")
    for scrape in content["scrape_configs"]:
        if "authorization" in scrape:
            scrape["authorization"]["credentials_file"] = "token"
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(content))
    shutil.copytree(PROMETHEUS / "rules", tmp_path / "rules")
    passes("promtool", "check", "config", tmp_path / "prometheus.yml")


def test_amtool_accepts_the_example_and_routes_pages_to_the_pager() -> None:
    config = PROMETHEUS / "alertmanager.yml"
    passes("amtool", "check-config", config)
    for severity, receiver in {"page": "pager", "ticket": "tickets"}.items():
        passes(
            "amtool", "config", "routes", "test", f"--config.file={config}", f"--verify.receivers={receiver}",
            f"severity={severity}", "alertname=CoordinatorDown",
        )  # fmt: skip


@pytest.mark.parametrize("job", make_registries())
def test_promtool_finds_no_fault_with_the_names_of_our_metrics(job: str) -> None:
    passes("promtool", "check", "metrics", text=make_registries()[job].metrics.text().decode())
