"""What is shipped can be rebuilt to the byte, and says what is in it (fault 47)."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import requires
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from tests.ops.observed import DEPLOY, ROOT, program

pytestmark = pytest.mark.slow


def build(place: Path) -> Path:
    """The wheel of what is committed, built in a folder of its own, at whatever time it is."""
    source = place / "source"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place / "dist"],
        cwd=source,
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    (wheel,) = (place / "dist").glob("sordino-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("first"))


def test_the_wheel_built_twice_is_the_same_file(wheel: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "elsewhere" / "deeper")
    assert again.name == wheel.name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


def test_the_wheel_holds_the_four_packages_and_nothing_of_the_machine(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for name in names:
            assert str(ROOT).encode() not in archive.read(name), name
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"sordino_client", "sordino_coordinator", "sordino_platform", "sordino_privacy"}
    held = [name for name in names if name.endswith((".key", ".pem", ".toml", ".sqlite"))]
    assert held == ["sordino_client/laboratory/simulation/app/pyproject.toml"], (
        "the Flower app, and no settings"
    )


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel, and of this one only the dependencies."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    subprocess.run(
        [place / "bin/pip", "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
        capture_output=True,
    )
    (site,) = place.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return place


def test_every_command_of_the_installed_wheel_explains_itself(installed: Path) -> None:
    """Run away from the checkout, so that nothing is found beside the wheel."""

    def help_of(*path: str) -> str:
        done = subprocess.run(
            [installed / "bin/sordino", *path, "--help"],
            cwd=installed,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (path, done.stderr)
        return done.stdout

    def below(text: str) -> list[str]:
        listed = text.split("Commands:\n")[1] if "Commands:\n" in text else ""
        return re.findall(r"^  ([a-z][a-z-]*)", listed, flags=re.MULTILINE)

    for name in below(help_of()):
        for sub in below(help_of(name)):
            help_of(name, sub)


def test_the_installed_wheel_is_typed(installed: Path, tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    user.write_text("from sordino_privacy.errors import SordinoError\n\nhint: int = SordinoError('x').hint\n")
    found = subprocess.run(
        [
            program("mypy", "pip install mypy"),
            "--strict",
            "--python-executable",
            installed / "bin/python",
            user,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Incompatible types in assignment" in found.stdout
    assert "py.typed" not in found.stdout


@pytest.fixture(scope="module")
def release() -> ModuleType:
    """deploy/release.py, which `make release` runs and which is part of no package."""
    spec = importlib.util.spec_from_file_location("release", DEPLOY / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("changelog", "changes", "why"),
    [
        ("\n## 0.2.0 (2026-12-01)\n", "", None),
        ("\n## 0.2.0\n", "", None),
        ("\n## Unreleased (0.2.0)\n", "", "CHANGELOG.md has no section"),
        ("\n## 0.2.0\n", " M README.md", "the tree has changes"),
    ],
)
def test_a_release_is_a_commit_that_the_changelog_names(
    release: ModuleType, changelog: str, changes: str, why: str | None
) -> None:
    said = release.refusal(version="0.2.0", changelog=changelog, changes=changes)
    assert (said is None) if why is None else (why in said)


def test_provenance_names_what_was_made_and_from_what(release: ModuleType, wheel: Path) -> None:
    lock = ROOT / "requirements" / "lock.txt"
    made = release.provenance(commit="c" * 40, epoch="1700000000", files=[wheel], lock=lock)
    assert made["predicateType"] == "https://slsa.dev/provenance/v1"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert made["subject"] == [{"name": wheel.name, "digest": {"sha256": digest}}]
    assert made["predicate"]["buildDefinition"]["resolvedDependencies"] == [
        {"name": "source", "digest": {"gitCommit": "c" * 40}},
        {
            "name": "requirements/lock.txt",
            "digest": {"sha256": hashlib.sha256(lock.read_bytes()).hexdigest()},
        },
    ]


@pytest.mark.deploy
def test_the_bill_of_materials_names_every_dependency_with_its_version(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    options = makefile.split("cyclonedx-py environment ")[1].split(" -o ")[0].split()
    command = [program("cyclonedx-py", "pip install -r deploy/requirements.txt"), "environment", *options]
    first, second = tmp_path / "sbom.json", tmp_path / "again.json"
    for written in (first, second):
        subprocess.run([*command, "-o", written, sys.prefix], cwd=ROOT, check=True, capture_output=True)
    assert first.read_bytes() == second.read_bytes()
    assert str(ROOT) not in first.read_text()
    bill = json.loads(first.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    components = {item["name"].lower().replace("_", "-"): item for item in bill["components"]}
    for line in requires("sordino") or ():
        requirement = Requirement(line)
        if requirement.marker is None:
            component = components[requirement.name.lower()]
            assert requirement.specifier.contains(component["version"], prereleases=True), requirement
            assert component["purl"].startswith("pkg:pypi/")
