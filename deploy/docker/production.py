"""Writes requirements.txt beside it: what the product needs at run time, as the project's lock has it.

The lock also holds the tools of development. This takes what pyproject.toml depends on and follows the declared
dependencies of what is installed. torch has a line of its own: its build without GPU support comes from its own index.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HEAD = "# Written by deploy/docker/production.py from requirements/lock.txt; installed with --no-deps.\n"


def closure(roots: list[str]) -> set[str]:
    """Names of everything that `roots` need, themselves included; what only torch needs is left out."""
    found: set[str] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found or name == "torch":
            continue
        found.add(name)
        for line in requires(name) or ():
            needed = Requirement(line)
            environments = [{"extra": extra} for extra in ("", *wanted.extras)]
            if needed.marker is None or any(needed.marker.evaluate(one) for one in environments):
                waiting.append(needed)
    return found


def main() -> None:
    """Writes the file named on the command line, or the committed one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements/lock.txt").read_text().splitlines()
    locked = {line.split("==")[0]: line for line in lines if "==" in line}
    names = closure(project["dependencies"])
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "requirements.txt"
    target.write_text(HEAD + "".join(f"{locked[name]}\n" for name in sorted({*names, "torch"})))


if __name__ == "__main__":
    main()
