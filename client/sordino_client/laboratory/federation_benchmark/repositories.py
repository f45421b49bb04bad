"""The members' projects as repositories on disk, in two parts: training files, and whole held-out packages.

The parts are folders, so that the real federation's agents and this benchmark read exactly the same files, and nothing
that trains can read the held-out part. A split within a package would make every model and every memory look better
than it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sordino_client.corpus import Corpus, read_repositories, split_heldout, units
from sordino_client.laboratory.pretrain.sources import Role
from sordino_client.laboratory.written import write_texts
from sordino_client.training.job import Tokens
from sordino_client.training.stream import SourceDocument
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError


class Sizes(Protocol):
    """What a benchmark's profile says about its members' repositories."""

    @property
    def parties(self) -> tuple[tuple[str, str], ...]:
        """(project, organisation) of every party."""
        ...

    @property
    def role(self) -> Role:
        """The corpus that holds the projects."""
        ...

    @property
    def language(self) -> str:
        """The one language whose files are used."""
        ...

    @property
    def files(self) -> int:
        """At most this many files of each party, in whole directories."""
        ...

    @property
    def heldout_share(self) -> float:
        """The held-out share of each party's text, in whole directories."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One member's code: two folders."""

    training: Path
    heldout: Path

    def texts(self) -> list[str]:
        """The held-out files, in the order of their hashes."""
        files = read_repositories([self.heldout]).files
        return sorted((file.text for file in files), key=lambda text: hashlib.sha256(text.encode()).digest())

    def documents(self) -> dict[str, str]:
        """The training files by name: what the member's memory holds."""
        return {file.name: file.text for file in read_repositories([self.training]).files}

    def units(self, tokenizer: Tokenizer, *, window: int, windows_per_unit: int) -> list[list[Tokens]]:
        """The units of the training files, as a member's agent forms them, each as its windows."""
        corpus = read_repositories([self.training])
        found = units(corpus, tokenizer, window=window, windows_per_unit=windows_per_unit)
        return [list(unit.windows) for unit in found]


def repository_places(folder: Path, profile: Sizes) -> dict[str, Repository]:
    """The path of each member's repository under `folder`."""
    return {
        name: Repository(training=folder / "training" / name, heldout=folder / "heldout" / name)
        for name, _ in profile.parties
    }


def write_repositories(
    folder: Path, documents: Iterable[SourceDocument], profile: Sizes
) -> dict[str, dict[str, int]]:
    """Writes every member's two folders; returns files and bytes of each. Raises DataError for a missing member."""
    found: dict[str, list[SourceDocument]] = {name: [] for name, _ in profile.parties}
    for document in documents:
        if document.project in found and document.language == profile.language:
            found[document.project].append(document)
    missing = [name for name, own in found.items() if not own]
    if missing:
        raise DataError(
            f"the {profile.role} corpus does not hold {', '.join(missing)}",
            hint=f"run: sordino corpus fetch {profile.role}",
        )
    facts = {}
    for name, place in repository_places(folder, profile).items():
        whole = folder / "whole" / name
        write_texts(whole, {d.path: d.text for d in _whole_directories(found[name], profile.files)})
        training, heldout = split_heldout(read_repositories([whole]), profile.heldout_share)
        write_texts(place.training, _files(training))
        write_texts(place.heldout, _files(heldout))
        facts[name] = _counts(training=training, heldout=heldout)
    return facts


def _whole_directories(documents: list[SourceDocument], most: int) -> list[SourceDocument]:
    """Whole directories, in the order of their names' hashes, until there are `most` files."""
    directories: dict[str, list[SourceDocument]] = {}
    for document in documents:
        directories.setdefault(document.path.rpartition("/")[0], []).append(document)
    chosen: list[SourceDocument] = []
    for name in sorted(directories, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if len(chosen) < most:
            chosen += directories[name]
    return chosen


def _files(corpus: Corpus) -> dict[str, str]:
    return {file.path: file.text for file in corpus.files}


def _counts(*, training: Corpus, heldout: Corpus) -> dict[str, int]:
    return {
        "training_files": len(training.files),
        "training_bytes": training.bytes,
        "heldout_files": len(heldout.files),
        "heldout_bytes": heldout.bytes,
    }
