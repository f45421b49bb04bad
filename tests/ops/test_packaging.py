"""What we ship to run elsewhere, through the checkers that need no Docker and no cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.ops.observed import DEPLOY, ROOT, load, program

pytestmark = pytest.mark.deploy

TOOLS = "make test-deploy installs it"
CHART = DEPLOY / "helm/sordino"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DIGEST = "sha256:" + "a" * 64
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "ceremony": {"ceremony": True},
    "plain": {"prometheus": {"enabled": False}, "networkPolicy": {"enabled": False}},
    "everything": {
        "image": {"digest": DIGEST},
        "persistence": {"storageClass": "fast"},
        "prometheus": {"alertmanager": "alertmanager.monitoring:9093"},
        "service": {"annotations": {"example.org/x": "y"}, "loadBalancerSourceRanges": ["192.0.2.0/24"]},
    },
}


def passes(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------- images and compose


def test_hadolint_finds_no_fault_with_the_images() -> None:
    passes(program("hadolint", TOOLS), "--failure-threshold=info", DEPLOY / "docker/Dockerfile")


def test_the_compose_file_is_one() -> None:
    passes(
        program("check-jsonschema", TOOLS),
        "--builtin-schema",
        "vendor.compose-spec",
        DEPLOY / "compose/compose.yml",
    )


def test_the_ceremony_script_is_clean() -> None:
    for script in sorted(DEPLOY.rglob("*.sh")):
        passes(program("shellcheck", TOOLS), script)


def test_the_ceremony_script_founds_a_federation(tmp_path: Path) -> None:
    """Its containers are folders here: the same commands run, each on the volume of its own service only."""
    (tmp_path / "repository").mkdir()
    shim = tmp_path / "compose"
    shim.write_text(
        "#!/bin/sh\nset -eu\n"
        'test "$1 $2 $3 $4" = "run --rm --no-deps -T"; shift 4\n'
        f'program="{Path(sys.executable).parent}/sordino"\n'
        'if [ "$1" = --entrypoint ]; then program=$2; shift 2; fi\n'
        f'volume="{tmp_path}/$1"; mkdir -p "$volume"; shift\n'
        "for argument do shift\n"
        '  set -- "$@" "$(printf %s "$argument" | sed -e "s#/var/lib/sordino#$volume#g" '
        f'-e "s#^/repository#{tmp_path}/repository#")"\n'
        'done\nexec "$program" "$@"\n'
    )
    shim.chmod(0o700)
    passes(DEPLOY / "compose/found.sh", COMPOSE=str(shim))
    for service, folder in (
        ("coordinator", "coordinator"),
        *((m, "member") for m in ("alder", "birch", "cedar")),
    ):
        shown = passes(program("sordino", TOOLS), "identity", "show", tmp_path / service / folder, "--json")
        assert '"problem": null' in shown
        assert (tmp_path / service / "token").stat().st_mode & 0o777 == 0o600
    settings = (tmp_path / "coordinator/coordinator/coordinator.toml").read_text()
    assert "metrics_port = 9464" in settings
    keys = {path.read_bytes() for path in tmp_path.rglob("identity.key")}
    assert len(keys) == 4


# ------------------------------------------------------------------------------------------------------------ systemd


def verified(unit: Path, folder: Path, *mode: str) -> str:
    """`systemd-analyze verify` on the unit with a program that exists here. It says what it finds and exits with 0."""
    copy = folder / unit.name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    return passes("systemd-analyze", *mode, "verify", copy, XDG_RUNTIME_DIR=str(folder))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_knows_every_setting_of_our_units(unit: Path, tmp_path: Path) -> None:
    mode = ["--user"] if unit.stem == "sordino-member" else []
    assert unit.name not in verified(unit, tmp_path, *mode)


def test_an_unknown_setting_of_a_unit_is_found(tmp_path: Path) -> None:
    bad = tmp_path / "in" / "sordino-coordinator.service"
    bad.parent.mkdir()
    bad.write_text((DEPLOY / "systemd/sordino-coordinator.service").read_text().replace("UMask=", "UMusk="))
    assert "UMusk" in verified(bad, tmp_path)


def test_the_coordinator_s_unit_exposes_little() -> None:
    passes(
        "systemd-analyze",
        "security",
        "--offline=true",
        "--threshold=20",
        DEPLOY / "systemd/sordino-coordinator.service",
    )


# --------------------------------------------------------------------------------------------------------- Kubernetes


def helm() -> Any:
    """Helm's own library. Imported here, because only `make test-deploy` installs it."""
    return import_module("helm_python")


@pytest.fixture(scope="module", params=VARIANTS)
def manifests(request: pytest.FixtureRequest) -> tuple[str, list[dict[str, Any]]]:
    """What Helm makes of the chart."""
    with helm().Chart.load(CHART) as chart:
        rendered = chart.render(values=VARIANTS[request.param], name="orchard")
    texts = [text for name, text in rendered.items() if not name.endswith("NOTES.txt")]
    return request.param, [part for text in texts for part in yaml.safe_load_all(text) if part]


def test_helm_s_linter_accepts_the_chart() -> None:
    messages = helm().lint(CHART, strict=True)
    assert not [message for message in messages["messages"] if message["severity"] > 1], messages


def test_every_manifest_is_what_kubernetes_knows(manifests: tuple[str, list[dict[str, Any]]]) -> None:
    validator = import_module("kubernetes_validate")  # it has no types
    variant, parts = manifests
    kinds = sorted(part["kind"] for part in parts)
    assert ("NetworkPolicy" in kinds) == (variant != "plain")
    for part in parts:
        validator.validate(part, "1.32", strict=True)


def test_every_container_is_locked_down(manifests: tuple[str, list[dict[str, Any]]]) -> None:
    (workload,) = (part for part in manifests[1] if part["kind"] == "StatefulSet")
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_the_chart_carries_our_rules_unchanged(manifests: tuple[str, list[dict[str, Any]]]) -> None:
    variant, parts = manifests
    maps = [part for part in parts if part["kind"] == "ConfigMap"]
    assert bool(maps) == (variant != "plain")
    for part in maps:
        assert yaml.safe_load(part["data"]["coordinator.rules.yml"]) == load(
            DEPLOY / "prometheus/rules/coordinator.rules.yml"
        )
        yaml.safe_load(part["data"]["prometheus.yml"])


def test_a_value_that_the_chart_does_not_know_is_refused() -> None:
    with helm().Chart.load(CHART) as chart, pytest.raises(helm().HelmError, match="additional properties"):
        chart.render(values={"replicas": 2}, name="orchard")


def test_the_images_hold_exactly_what_the_product_needs(tmp_path: Path) -> None:
    target = tmp_path / "requirements.txt"
    subprocess.run([sys.executable, DEPLOY / "docker/production.py", target], check=True)
    committed = (DEPLOY / "docker/requirements.txt").read_text()
    assert target.read_text() == committed, "run: python deploy/docker/production.py"
    locked = (ROOT / "requirements/lock.txt").read_text().splitlines()
    assert set(committed.splitlines()[1:]) < set(locked)
    assert not re.search(r"^(pytest|ruff|mypy|hypothesis|pip)==", committed, flags=re.MULTILINE)
