"""Writes lock.txt: one resolution of pyproject.toml, its extras and dev.in, by pip itself.

The language server's library (pygls 2) asks for an attrs above the range that dp-accounting declares, so the two
cannot be resolved together. They run together (the accounting's known answers are tested with this attrs), so the
lock holds the newer one and is installed with --no-deps.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
BESIDE = ("pygls>=2",)
ABOVE_DECLARED_RANGE = ("attrs",)
HEAD = (
    "# Written by `make lock`; installed with --no-deps, so that what is tested is exactly this list.\n"
    "# Why attrs is above the range that dp-accounting declares stands in lock.py.\n"
)


def resolve(requirements: list[str]) -> dict[str, str]:
    """Name to version, as pip would install `requirements` into an empty environment."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", report.name, *requirements], check=True)
        found = json.loads(Path(report.name).read_text())["install"]
    rows = (item["metadata"] for item in found)
    return {row["name"].lower().replace("_", "-"): row["version"].split("+")[0] for row in rows}


def main() -> None:
    """Resolves, merges, writes."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    dev = [line for line in (HERE / "dev.in").read_text().splitlines() if line and not line.startswith("#")]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    rows = resolve([*project["dependencies"], *extras, *dev])
    beside = resolve(list(BESIDE))
    rows = {**beside, **rows, **{name: beside[name] for name in ABOVE_DECLARED_RANGE}}
    (HERE / "lock.txt").write_text(HEAD + "".join(f"{name}=={rows[name]}\n" for name in sorted(rows)))


if __name__ == "__main__":
    main()
