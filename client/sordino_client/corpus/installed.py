"""Real repositories that are on this machine already: the source trees of installed Python packages.

The demonstration gives each member packages of its own as its "proprietary" code. No file is in two members: packages
are given out whole, and what two packages have in common (vendored copies, boilerplate) stays with the first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, distributions
from pathlib import Path

from sordino_client.corpus.corpus import Corpus
from sordino_client.corpus.foreign import is_vendored
from sordino_privacy.errors import DataError, UsageError

_OWN_DISTRIBUTION = "sordino"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class InstalledPackage:
    """One top-level package. `bytes` and `python_files` count its `.py` files, vendored folders left out."""

    name: str  # of the distribution, lower case
    version: str
    folder: Path
    bytes: int
    python_files: int


def installed_packages(
    minimum_bytes: int, *, paths: Sequence[str] | None = None
) -> tuple[InstalledPackage, ...]:
    """Packages with at least `minimum_bytes` of Python source, the largest first, then by name.

    Looks where this interpreter imports from, or in `paths`. Left out: sordino itself, editable installations (their
    source is someone's work tree), and folders that several distributions share (namespace packages).
    """
    found = distributions() if paths is None else distributions(path=list(paths))
    sources: dict[Path, dict[Path, int]] = defaultdict(dict)
    owners: dict[Path, set[tuple[str, str]]] = defaultdict(set)
    for distribution in found:
        owner = (_name(distribution), distribution.version)
        if owner[0] == _OWN_DISTRIBUTION or distribution.read_text("direct_url.json"):
            continue
        for folder, file, size in _python_files(distribution):
            sources[folder][file] = size
            owners[folder].add(owner)
    packages = []
    for folder, files in sources.items():
        total = sum(files.values())
        if len(owners[folder]) == 1 and total >= minimum_bytes:
            ((name, version),) = owners[folder]
            packages.append(
                InstalledPackage(
                    name=name, version=version, folder=folder, bytes=total, python_files=len(files)
                )
            )
    return tuple(sorted(packages, key=lambda package: (-package.bytes, package.name, package.folder)))


def _name(distribution: Distribution) -> str:
    return str(distribution.metadata["Name"] or "").lower().replace("_", "-")


def _python_files(distribution: Distribution) -> list[tuple[Path, Path, int]]:
    """(top-level folder, file, size) of every Python file below a top-level package of a distribution."""
    base = Path(str(distribution.locate_file(""))).resolve()
    found = []
    for entry in distribution.files or ():
        parts = entry.parts
        if entry.suffix != ".py" or len(parts) < 2 or ".." in parts or any(map(is_vendored, parts[:-1])):
            continue
        file = base.joinpath(*parts)
        try:
            found.append((base / parts[0], file, file.lstat().st_size))
        except OSError:  # listed but not there: someone removed it
            continue
    return found


def assign_disjoint(
    packages: Sequence[InstalledPackage], members: Sequence[str]
) -> dict[str, tuple[InstalledPackage, ...]]:
    """Give every package to one member, so that the members' shares are about equally large.

    Largest first, each to the member that has least so far (Graham 1969: no share is above 4/3 of the best possible
    maximum). Raises DataError when there are fewer packages than members, or when one folder lies inside another,
    UsageError for members that are not named once each.
    """
    if not members or len(set(members)) != len(members):
        raise UsageError("members must be named, each once")
    if len(packages) < len(members):
        raise DataError(
            f"{len(packages)} installed packages cannot be split over {len(members)} members",
            hint="lower the minimum size, take fewer members, or name repositories with --repo",
        )
    folders = {package.folder for package in packages}
    for package in packages:
        if len(folders) != len(packages) or folders.intersection(package.folder.parents):
            raise DataError(f"{package.folder} is there twice, or lies inside another package")
    shares: dict[str, list[InstalledPackage]] = {member: [] for member in members}
    sizes = dict.fromkeys(members, 0)
    for package in sorted(packages, key=lambda package: (-package.bytes, package.name, package.folder)):
        poorest = min(members, key=lambda member: sizes[member])
        shares[poorest].append(package)
        sizes[poorest] += package.bytes
    return {member: tuple(share) for member, share in shares.items()}


def make_disjoint(corpora: Mapping[str, Corpus]) -> dict[str, Corpus]:
    """The same corpora with no text in two of them: a text stays with the first member, in the order of the mapping."""
    taken: set[bytes] = set()
    result = {}
    for member, corpus in corpora.items():
        kept = tuple(file for file in corpus.files if file.digest not in taken)
        taken.update(file.digest for file in kept)
        result[member] = replace(corpus, files=kept)
    return result
