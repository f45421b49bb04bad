"""Writes lock.txt: one resolution of pyproject.toml, its extras and dev.in by pip, with the hash of every file by uv.

What is locked stays as it is, unless pyproject.toml asks for another version or it is named to be upgraded:

    make lock                        # after a change of pyproject.toml or dev.in; hashes the files beside it anew
    make lock UPGRADE="certifi uv"   # these to their newest versions
    make lock UPGRADE=everything

The tests' language client (pygls 2) asks for an attrs above the range that dp-accounting declares, so the two
cannot be resolved together. They run together (the accounting's known answers are tested with this attrs), so the
lock holds the newer one and is installed with --no-deps.

torch alone has no hash: each index that serves it serves other bytes under one version. pip takes all or nothing of a
file's hashes, so the Makefile installs torch by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
BESIDE = ("pygls>=2",)
ABOVE_DECLARED_RANGE = ("attrs",)
UNHASHED = "torch"
PINNED_BY_HAND = (
    HERE / "browser.txt",
    HERE / "docs.txt",
    HERE / "pictures.txt",
    HERE / "provider.txt",
    HERE.parent / "deploy" / "requirements.txt",
)
HEAD = (
    "# Written by `make lock`; installed with --no-deps, so that what is tested is exactly this list.\n"
    "# Why attrs is above the range that dp-accounting declares, and torch has no hash, stands in lock.py.\n"
)


def resolve(requirements: list[str], *, held: list[str]) -> dict[str, str]:
    """Name to version, as pip would install `requirements` into an empty environment within the pins `held`."""
    with (
        tempfile.NamedTemporaryFile(suffix=".json") as report,
        tempfile.NamedTemporaryFile("w", suffix=".txt") as pins,
    ):
        pins.write("\n".join(held))
        pins.flush()
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--constraint", pins.name, "--report", report.name]
        subprocess.run([*command, *requirements], check=True)
        found = json.loads(Path(report.name).read_text())["install"]
    rows = (item["metadata"] for item in found)
    return {canonicalize_name(row["name"]): row["version"].split("+")[0] for row in rows}


def hashed(pins: list[str]) -> list[str]:
    """Each `name==version` with the hash of every file that the index has of it, so that any platform may install."""
    command = [
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--no-deps",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "-",
    ]
    plain = [pin for pin in pins if not pin.startswith(f"{UNHASHED}==")]
    done = subprocess.run(command, input="\n".join(plain), check=True, capture_output=True, text=True)
    rows = [" ".join(row.split()) for row in done.stdout.replace("\\\n", " ").splitlines()]
    without = [pin for pin in pins if pin.startswith(f"{UNHASHED}==")]
    if len(rows) != len(plain) or any("--hash=" not in row for row in rows):
        raise SystemExit("error: uv did not give a hash for every package; is the index reachable?")
    return sorted(rows + without)


def pins_of(path: Path) -> list[str]:
    """The `name==version` of each row of a requirements file, without hashes and comments."""
    rows = path.read_text().splitlines()
    return [row.split()[0] for row in rows if row and not row.startswith("#")]


def hold(locked: list[str], upgrade: set[str], asked: list[str]) -> list[str]:
    """The pins that stay: all, less those to upgrade and those that pyproject.toml now excludes."""
    wanted = {canonicalize_name(one.name): one.specifier for one in map(Requirement, asked)}
    kept = []
    for pin in locked:
        name, version = pin.split("==")
        fits = name not in wanted or wanted[name].contains(version)
        if fits and name not in upgrade and "everything" not in upgrade:
            kept.append(pin)
    return kept


def main(upgrade: set[str]) -> None:
    """Resolves, merges, hashes, writes."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    dev = [line for line in (HERE / "dev.in").read_text().splitlines() if line and not line.startswith("#")]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    asked = [*project["dependencies"], *extras, *dev]
    held = hold(pins_of(HERE / "lock.txt"), upgrade, [*asked, *BESIDE])
    rows = resolve(asked, held=[pin for pin in held if pin.split("==")[0] not in ABOVE_DECLARED_RANGE])
    beside = resolve(list(BESIDE), held=held)
    rows = {**beside, **rows, **{name: beside[name] for name in ABOVE_DECLARED_RANGE}}
    (HERE / "lock.txt").write_text(
        HEAD + "\n".join(hashed([f"{name}=={rows[name]}" for name in rows])) + "\n"
    )
    for path in PINNED_BY_HAND:
        comments = [row for row in path.read_text().splitlines() if row.startswith("#")]
        path.write_text("\n".join([*comments, *hashed(pins_of(path))]) + "\n")


if __name__ == "__main__":
    main({canonicalize_name(name) for name in sys.argv[1:]})
