"""Identifies a repository, whatever folder it lies in, by the first commits of its git history.

Two clones, a fork and a worktree have the same ones; an edit, a rename or a move changes none. A shallow clone does not
know them, and a folder without git has none: then the texts decide (sordino_client.ledger.machine).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

SECONDS = 120.0
MAX_ORIGINS = 64
# Settings under which nothing that the repository configures can run or reach the network.
GIT = (
    "git",
    "--no-pager",
    "--no-optional-locks",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "protocol.allow=never",
)
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def origins(repositories: Sequence[Path]) -> tuple[str, ...]:
    """The first commits of all the repositories, sorted.

    A folder that is not a git repository, or that git cannot read, adds none. Only a repository's top folder counts:
    two parts of a large repository are different data.
    """
    found: set[str] = set()
    for path in repositories:
        if (path / ".git").exists():
            found.update(_first_commits(path))
    return tuple(sorted(found))


def _first_commits(path: Path) -> tuple[str, ...]:
    def ask(*words: str) -> list[str]:
        done = subprocess.run(
            [*GIT, "-C", str(path), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env=ENVIRONMENT,
        )
        return done.stdout.split() if done.returncode == 0 else []

    try:
        if ask("rev-parse", "--is-shallow-repository") != ["false"]:
            return ()
        return tuple(ask("rev-list", "--max-parents=0", f"--max-count={MAX_ORIGINS}", "HEAD"))
    except (OSError, subprocess.TimeoutExpired):
        return ()
