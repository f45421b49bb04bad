"""What is shipped can be rebuilt to the byte, and says what is in it (fault 47)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tests.ops.observed import ROOT, program

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
    assert not [name for name in names if name.endswith((".key", ".pem", ".toml", ".sqlite"))]


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
