"""Fetches Debian source packages with apt's own client and a separate configuration in the corpus cache.

The machine's package state is never changed: lists, archives and sources are under `cache/apt`. The machine's `deb`
entries for its own distribution are repeated there as `deb-src`. Security suites are left out, because they hold
patches, not projects. Archives do miss packages; then the distribution's next suites are tried. apt checks the
signatures and the SHA-256 of what it fetches; the digest is written to the manifest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path

from sordino_client.laboratory.pretrain.copyright import MAX_CHARACTERS
from sordino_platform.durable import sha256_of_file
from sordino_privacy.errors import DataError

NEXT_SUITES = ("trixie", "sid")
MAX_ARCHIVE_BYTES = 128 << 20
_TIMEOUT_SECONDS = 300
# The upstream archive itself, not an additional one that some packages have (`.orig-NAME.tar`).
_URI = re.compile(
    r"^'[^']*' (?P<file>[A-Za-z0-9.+~_-]+\.tar\.\w+) (?P<size>\d+)(?: SHA256:(?P<sha256>[0-9a-f]{64}))?",
    re.MULTILINE,
)
_FURTHER = re.compile(r"\.orig-[A-Za-z0-9-]+\.tar\.")
_VERSION = re.compile(r"Selected version '(?P<version>[^']+)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceArchive:
    """One fetched upstream archive."""

    path: Path
    suite: str
    version: str
    sha256: str


class SourcePackages:
    """A private view of the distribution's source packages under `folder`.

    Raises DataError when this machine has no apt, or no Debian entry to repeat.
    """

    def __init__(self, folder: Path, archives: Path) -> None:
        if shutil.which("apt-get") is None:
            raise DataError("source packages need apt-get", hint="run on Debian, or copy a filled cache here")
        self._archives = archives
        (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "sources").mkdir(exist_ok=True)
        self.suites = _write_sources(folder / "sources" / "sordino.sources")
        self._options = [
            f"-oDir::State::lists={folder / 'lists'}",
            f"-oDir::Cache={folder / 'cache'}",
            "-oDir::Etc::sourcelist=/dev/null",
            f"-oDir::Etc::sourceparts={folder / 'sources'}",
            # apt's unprivileged user may not be able to write to the cache. Signatures are still checked.
            "-oAPT::Sandbox::User=root",
        ]

    def update(self) -> bool:
        """Refreshes the lists. Returns False without a network: then only existing lists can be used."""
        return self._apt("update", "-o", "APT::Update::Error-Mode=any").returncode == 0

    def fetch(self, name: str) -> SourceArchive | None:
        """The upstream archive of one package, from the first suite that has it; None if no suite has it."""
        for suite in self.suites:
            where = ["source", "--download-only", "--only-source", "--tar-only", "-t", suite]
            plan = self._apt(*where, "--print-uris", f"{name}/{suite}")
            uris = [m for m in _URI.finditer(plan.stdout) if not _FURTHER.search(m["file"])]
            version = _VERSION.search(plan.stdout)
            if plan.returncode or version is None:
                continue
            stem = f"{name}_{version['version'].split(':')[-1].rsplit('-', 1)[0]}."
            if not uris:  # apt prints nothing for a file that is already here and whole
                here = [
                    p for p in sorted(self._archives.glob(f"{stem}*tar.*")) if not _FURTHER.search(p.name)
                ]
            else:
                uri = uris[0]
                if int(uri["size"]) > MAX_ARCHIVE_BYTES:
                    continue
                here = [self._archives / uri["file"]]
                # An additional archive may be missing while the upstream one is complete: only its own digest counts.
                if self._apt(*where, f"{name}/{suite}").returncode and not _is_whole(here[0], uri["sha256"]):
                    continue
            if here and here[0].is_file():
                return SourceArchive(
                    path=here[0],
                    suite=suite,
                    version=version["version"],
                    sha256=sha256_of_file(here[0]).hex(),
                )
        return None

    def copyright(self, name: str, suite: str) -> str | None:
        """The text of the package's copyright file from `suite`, or from another suite if that one does not have it.

        None if no suite has it.
        """
        for one in (suite, *(s for s in self.suites if s != suite)):
            where = ["source", "--download-only", "--only-source", "--diff-only", "-t", one]
            plan = self._apt(*where, "--print-uris", f"{name}/{one}")
            version = _VERSION.search(plan.stdout)
            if plan.returncode or version is None or self._apt(*where, f"{name}/{one}").returncode:
                continue
            stem = f"{name}_{version['version'].split(':')[-1]}.debian.tar."
            for path in sorted(self._archives.glob(f"{stem}*")):
                if (text := _copyright_of(path)) is not None:
                    return text
        return None

    def _apt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["apt-get", *self._options, *arguments]
        environment = {**os.environ, "LC_ALL": "C"}
        try:
            return subprocess.run(
                command, cwd=self._archives, env=environment, capture_output=True, text=True,
                stdin=subprocess.DEVNULL, timeout=_TIMEOUT_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise DataError(
                "apt-get did not answer", hint="check the network and run the command again"
            ) from error


def _copyright_of(path: Path) -> str | None:
    """`debian/copyright` from a packaging archive, read in memory; None if it is missing or too large."""
    try:
        with tarfile.open(path) as archive:
            member = archive.getmember("debian/copyright")
            handle = archive.extractfile(member) if member.isreg() and member.size <= MAX_CHARACTERS else None
            return None if handle is None else handle.read().decode(errors="replace")
    except (KeyError, OSError, tarfile.TarError, EOFError, LZMAError):
        return None


def _is_whole(path: Path, digest: str | None) -> bool:
    return digest is not None and path.is_file() and sha256_of_file(path).hex() == digest


def _write_sources(target: Path) -> tuple[str, ...]:
    """Writes `deb-src` copies of this machine's own distribution entries; returns the suites in order."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    codename = release.get("VERSION_CODENAME", "").strip('"')
    for uri, signed_by in _debian_entries(codename):
        suites = (codename, *(s for s in NEXT_SUITES if s != codename))
        key = f"Signed-By: {signed_by}\n" if signed_by else ""
        target.write_text(f"Types: deb-src\nURIs: {uri}\nSuites: {' '.join(suites)}\nComponents: main\n{key}")
        return suites
    raise DataError("no Debian entry was found among this machine's package sources", hint="run on Debian")


def _debian_entries(codename: str) -> list[tuple[str, str]]:
    """`(uri, signed-by)` of the machine's own archive, from both file formats that apt reads."""
    found = []
    root = Path("/etc/apt")
    for path in sorted(root.glob("sources.list.d/*.sources")):
        for stanza in path.read_text().split("\n\n"):
            fields = dict(
                line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != "#"
            )
            if (
                codename
                and codename in fields.get("Suites", "").split()
                and "main" in fields.get("Components", "")
            ):
                found.append((fields["URIs"].split()[0], fields.get("Signed-By", "")))
    for path in [root / "sources.list", *sorted(root.glob("sources.list.d/*.list"))]:
        for line in path.read_text().splitlines() if path.is_file() else ():
            match = re.match(
                r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+.*\bmain\b", line
            )
            if match and match["suite"] == codename and "cloud" not in match["uri"]:
                key = re.search(r"signed-by=(\S+)", match["options"] or "")
                found.append((match["uri"], key[1] if key else ""))
    return found
