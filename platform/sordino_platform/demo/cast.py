"""Who takes part in the demo, with which code: five companies, public code for measurements, and a newcomer who joins
later.

No file belongs to two of them. The client's commands find the code, so that the platform imports nothing of the client.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sordino_privacy.errors import DataError

# (member, organisation): five companies that would never show each other their code.
PARTIES = (
    ("aurora", "Aurora Robotics"),
    ("borealis", "Borealis Bank"),
    ("cascade", "Cascade Energy"),
    ("delta", "Delta Health"),
    ("ember", "Ember Logistics"),
)
SHARE_BYTES = 4_000_000
# The public code that measures releases: small projects of many kinds, because a gain on one of them alone says
# nothing.
HELDOUT_SHARES, HELDOUT_SHARE_BYTES = 8, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """The newcomer: its first files, and the files it is measured on."""

    name: str
    first: Path
    heldout: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Repositories by member, public folders that measure releases, and the newcomer, if there is one."""

    repositories: Mapping[str, Sequence[Path]]
    measuring: Sequence[Path]
    newcomer: Newcomer | None = None


def choose_cast(folder: Path, chosen: list[Path]) -> Cast:
    """The members and their code; no file belongs to two of them.

    By default the code is services of one platform, fetched by name and hash; offline, the source trees of Python
    packages that are installed here. Raises DataError.
    """
    names = [name for name, _ in PARTIES]
    if chosen:
        if len(chosen) < len(PARTIES):
            raise DataError(
                f"{len(chosen)} repositories are too few for {len(PARTIES)} members",
                hint=f"give --repo {len(PARTIES)} times or more, or leave it out to use public ones",
            )
        repositories = {
            name: [path.resolve() for path in chosen[i :: len(names)]] for i, name in enumerate(names)
        }
        return Cast(repositories=repositories, measuring=public(repositories))
    return _one_field(folder, names) or _installed_cast(folder, names)


def _one_field(folder: Path, names: Sequence[str]) -> Cast | None:
    """Services of one platform; None when their wheels cannot be fetched."""
    found = _demonstration("repositories", "--folder", str(folder / "repositories"))
    if found is None:
        return None
    return Cast(
        repositories={
            name: [Path(path) for path in paths] for name, paths in zip(names, found["members"], strict=True)
        },
        measuring=[Path(path) for path in found["measuring"]],
        newcomer=_newcomer(found["newcomer"]),
    )


def _installed_cast(folder: Path, names: Sequence[str]) -> Cast:
    """Installed packages; the newcomer gets the remaining share."""
    *shares, last = installed(len(names) + 1)
    repositories = dict(zip(names, shares, strict=True))
    words = [word for path in last for word in ("--repo", str(path))]
    split = _demonstration("split", "--folder", str(folder / "newcomer"), *words)
    held = [path for path in public(repositories) if path not in last]
    newcomer = None if split is None else _newcomer(split | {"name": last[0].name})
    return Cast(repositories=repositories, measuring=held, newcomer=newcomer)


def _newcomer(found: Mapping[str, str]) -> Newcomer:
    return Newcomer(name=found["name"], first=Path(found["first"]), heldout=Path(found["heldout"]))


def _demonstration(*words: str) -> dict[str, Any] | None:
    """Runs the client's part of the demo as a command; None when it failed."""
    command = [sys.executable, "-P", "-m", "sordino_client.laboratory.field_benchmark.demonstration", *words]
    # Offline, pip would try again and again.
    environment = {**os.environ, "PIP_RETRIES": "0", "PIP_TIMEOUT": "10", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_newcomer(
    newcomer: Newcomer, *, coordinator: Path, repositories: Mapping[str, Sequence[Path]], scratch: Path
) -> dict[str, Any] | None:
    """What the newest release brings to a newcomer; None when it cannot be measured. See the client's demonstration.

    `coordinator` is the folder with the releases. `repositories` are those of the members; the newcomer must not have
    them. `scratch` is a folder for its memory.
    """
    words = ["--coordinator", coordinator, "--first", newcomer.first]
    words += ["--heldout", newcomer.heldout, "--scratch", scratch]
    for paths in repositories.values():
        words += [word for path in paths for word in ("--member", path)]
    found = _demonstration("newcomer", *map(str, words))
    return None if found is None else found | {"name": newcomer.name}


def shipped_repositories(names: Sequence[str]) -> tuple[dict[str, list[Path]], list[Path]]:
    """Installed packages as the repositories of these members, and public folders beside them. Raises DataError."""
    repositories = dict(zip(names, installed(len(names)), strict=True))
    return repositories, public(repositories)


def public(repositories: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Installed packages that are in none of the repositories, to measure releases. Raises DataError."""
    held = {path for share in repositories.values() for path in share}
    shares = installed(HELDOUT_SHARES, share_bytes=HELDOUT_SHARE_BYTES)
    return sorted({path for share in shares for path in share} - held)


def installed(shares: int, *, share_bytes: int = SHARE_BYTES) -> list[list[Path]]:
    """Disjoint lists of installed packages' folders of about equal size, by the member's own command."""
    sizes = ["--shares", str(shares), "--share-bytes", str(share_bytes), "--json"]
    command = [sys.executable, "-P", "-m", "sordino_platform.cli", "client", "installed", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"cannot find installed packages: {done.stderr.strip().removeprefix('error: ')}")
    return [[Path(path) for path in share] for share in json.loads(done.stdout)]
