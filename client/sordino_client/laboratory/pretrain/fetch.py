"""Fetches the projects of a role by name and hands them, as archives on disk, to `corpus.build_corpus`.

Resumable: packages in the cache are not fetched again. Without a network it says so and uses the cache. A package that
the archive does not have is reported. It is an error only if more than half of a role is missing.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

from sordino_client.laboratory.pretrain.archive import (
    MAX_FILE_BYTES,
    decode_source,
    language_of,
    licence_text,
    read_archive,
)
from sordino_client.laboratory.pretrain.copyright import Copyright, parse_copyright
from sordino_client.laboratory.pretrain.corpus import FetchedProject
from sordino_client.laboratory.pretrain.debian import SourcePackages
from sordino_client.laboratory.pretrain.field import Pinned
from sordino_client.laboratory.pretrain.sources import Source, sources_of
from sordino_platform.durable import sha256_of_file
from sordino_privacy.errors import DataError


def fetch(
    cache: Path,
    role: str,
    *,
    small: bool = False,
    offline: bool = False,
    on_progress: Callable[[str, str], None] = lambda name, outcome: None,
) -> list[FetchedProject]:
    """The projects of a role that could be fetched. `on_progress(name, outcome)` is called after each.

    Raises UsageError for an unknown role, DataError when more than half of the projects are missing.
    """
    wanted = sources_of(role, small=small)
    archives = cache / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    packages: SourcePackages | None = None
    if not offline and any(source.kind == "debian" for source in wanted):
        packages = SourcePackages(cache / "apt", archives)
        if not packages.update():
            on_progress("apt", "offline: only what is cached will be used")
            offline = True
    lock = _read_lock(cache)
    projects = []
    for source in wanted:
        project = _fetch_one(source, archives, packages, lock, offline=offline)
        on_progress(source.name, f"{project.version}" if project else "not to be had")
        if project:
            projects.append(project)
            (cache / "lock.json").write_text(json.dumps(lock, indent=1, sort_keys=True) + "\n")
    if len(projects) * 2 < len(wanted):
        raise DataError(
            f"only {len(projects)} of {len(wanted)} projects of the {role} corpus could be had",
            hint="connect to the network, or copy a filled cache here, and run the command again",
        )
    return projects


def fetch_pinned(cache: Path, pins: Iterable[Pinned]) -> list[FetchedProject]:
    """Those wheels, from the cache or from the package index. Raises DataError when one cannot be fetched."""
    archives = cache / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    lock, projects = _read_lock(cache), []
    for one in pins:
        source = Source(name=one.name, kind="wheel", role="field", pinned=one)
        project = _fetch_one(source, archives, None, lock, offline=False)
        if project is None:
            raise DataError(
                f"the wheel of {one.name} {one.version} could not be had", hint="connect to the network"
            )
        projects.append(project)
        (cache / "lock.json").write_text(json.dumps(lock, indent=1, sort_keys=True) + "\n")
    return projects


def _read_lock(cache: Path) -> dict[str, dict[str, str]]:
    path = cache / "lock.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _fetch_one(
    source: Source,
    archives: Path,
    packages: SourcePackages | None,
    lock: dict[str, dict[str, str]],
    *,
    offline: bool,
) -> FetchedProject | None:
    if source.kind == "standard-library":
        return standard_library(source.name)
    if source.kind == "installed":
        return _installed(source.name)
    locked = lock.get(source.name)
    if locked is not None and source.pinned is not None and locked["sha256"] != source.pinned.sha256:
        locked = None  # of an older pin
    if locked is None or not (archives / locked["file"]).is_file():
        if offline:
            return None
        fetched = (
            _wheel(archives, source)
            if packages is None or source.kind == "wheel"
            else _from_debian(packages, source.name)
        )
        if fetched is None:
            return None
        locked = lock[source.name] = fetched
    allowed = _allowed(source, archives, packages, locked) if source.licensed else None
    if source.licensed and allowed is None:
        return None
    path = archives / locked["file"]
    if sha256_of_file(path).hex() != locked["sha256"]:
        raise DataError(
            f"{path.name} is not the file that was fetched", hint="delete it and run the command again"
        )
    return FetchedProject(
        name=source.name,
        version=locked["version"],
        sha256=locked["sha256"],
        licence=locked.get("licence", "see the project's own LICENSE; each file's header is checked"),
        files=lambda skipped: _read_allowed(path, skipped, source.languages, allowed),
    )


def _allowed(
    source: Source, archives: Path, packages: SourcePackages | None, locked: dict[str, str]
) -> Copyright | None:
    """The rules of the project's copyright file; None if there is no such file or it names no permissive licence.

    It is the distribution's file or, if the distribution lacks the package, the project's own licence file. It is
    stored next to the archive; the lock holds its digest and the licence of the whole package.
    """
    path = archives / f"{source.name}.copyright"
    if "copyright" not in locked and packages is not None:
        text = packages.copyright(source.name, locked.get("suite", packages.suites[0]))
        text = licence_text(archives / locked["file"]) if text is None else text
        if text is not None:
            path.write_text(text, encoding="utf-8")
            locked["copyright"] = sha256_of_file(path).hex()
    if "copyright" not in locked or not path.is_file():
        return None
    if sha256_of_file(path).hex() != locked["copyright"]:
        raise DataError(
            f"{path.name} is not the file that was fetched", hint="delete it and run the command again"
        )
    try:
        allowed = parse_copyright(path.read_text(encoding="utf-8"))
    except DataError:
        return None
    locked["licence"] = allowed.licence
    return allowed


def _read_allowed(
    path: Path, skipped: Counter[str], languages: frozenset[str], allowed: Copyright | None
) -> Iterator[tuple[str, str, str]]:
    """The files of an archive, without those that the copyright file does not allow."""
    for name, language, text in read_archive(path, skipped, languages):
        if allowed is None or allowed.allows(name.removeprefix("./").split("/", 1)[-1]):
            yield name, language, text
        else:
            skipped["licence"] += 1


def _from_debian(packages: SourcePackages, name: str) -> dict[str, str] | None:
    archive = packages.fetch(name)
    if archive is None:
        return None
    return {
        "file": archive.path.name,
        "version": archive.version,
        "sha256": archive.sha256,
        "suite": archive.suite,
    }


def _wheel(archives: Path, source: Source) -> dict[str, str] | None:
    """Downloads a distribution's wheel: it has the sources, and no build script is run.

    If the wheel is pinned, pip refuses a file with another hash.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
               "--disable-pip-version-check", "--dest", str(archives)]  # fmt: skip
    version, wanted = "[0-9]*", [source.name]
    with tempfile.TemporaryDirectory() as scratch:
        if (pinned := source.pinned) is not None:
            requirements = Path(scratch) / "pinned.txt"
            requirements.write_text(f"{pinned.name}=={pinned.version} --hash=sha256:{pinned.sha256}\n")
            # It is only read and never run, so any Python version will do.
            version, wanted = (
                pinned.version,
                ["--ignore-requires-python", "--require-hashes", "-r", str(requirements)],
            )
        done = subprocess.run(
            [*command, *wanted],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )
    begin = source.name.lower().replace("-", "_") + "-"  # older wheels have capitals in the name
    found = sorted(
        path for path in archives.glob(f"*-{version}-*.whl") if path.name.lower().startswith(begin)
    )
    if done.returncode or not found:
        return None
    path = found[-1]
    with ZipFile(path) as wheel:
        entry = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(wheel.read(entry).decode(errors="replace"))
    trove = [
        c.rsplit(" :: ", 1)[-1] for c in metadata.get_all("Classifier", []) if c.startswith("License ::")
    ]
    licence = metadata.get("License-Expression") or ", ".join(trove) or "see the project's LICENSE"
    return {
        "file": path.name,
        "version": path.name.split("-")[1],
        "sha256": sha256_of_file(path).hex(),
        "licence": licence,
    }


def standard_library(name: str) -> FetchedProject:
    """The standard library of the running interpreter, without its tests."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skip = re.compile(
        r"^(?:test|idlelib|lib2to3|site-packages|dist-packages|ensurepip|encodings|config-[^/]*)/|/tests?/"
    )
    files = sorted(p for p in root.rglob("*.py") if not skip.match(p.relative_to(root).as_posix()))
    return FetchedProject(
        name=name,
        version=sys.version.split()[0],
        sha256="",
        licence="PSF-2.0",
        files=lambda skipped: _read_files(root, files, skipped),
    )


def _installed(name: str) -> FetchedProject | None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    root = Path(str(distribution.locate_file("")))
    files = [root / str(f) for f in sorted(map(str, distribution.files or [])) if f.endswith(".py")]
    return FetchedProject(
        name=name,
        version=distribution.version,
        sha256="",
        licence="not redistributed; read only to keep it out of the public corpus",
        files=lambda skipped: _read_files(root, files, skipped),
    )


def _read_files(root: Path, files: list[Path], skipped: Counter[str]) -> Iterator[tuple[str, str, str]]:
    for path in files:
        language = language_of(path.name)
        if (
            language is None
            or path.is_symlink()
            or not path.is_file()
            or path.stat().st_size > MAX_FILE_BYTES
        ):
            skipped["not a regular file, or too large"] += 1
            continue
        text = decode_source(path.read_bytes())
        if text is None:
            skipped["not text"] += 1
        else:
            yield path.relative_to(root).as_posix(), language, text
