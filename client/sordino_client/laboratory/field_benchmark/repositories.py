"""Members and newcomers on disk: training and held-out folders, and for each newcomer a folder of its first files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sordino_client.laboratory.federation_benchmark.repositories import (
    Repository,
    repository_places,
    write_repositories,
)
from sordino_client.laboratory.field_benchmark.profile import FieldProfile
from sordino_client.training.stream import SourceDocument
from sordino_platform.durable import make_folder


def places(folder: Path, profile: FieldProfile) -> dict[str, Repository]:
    """The path of each party's repository under `folder`."""
    return repository_places(folder, profile)


def beginnings(folder: Path, profile: FieldProfile) -> dict[str, Repository]:
    """For each newcomer, the repository of its first files. The held-out files are the same."""
    whole = places(folder, profile)
    return {name: replace(whole[name], training=folder / "few" / name) for name in profile.joining}


def write(
    folder: Path, documents: Iterable[SourceDocument], profile: FieldProfile
) -> dict[str, dict[str, int]]:
    """Writes the folders of all parties; returns files and bytes of each. Raises DataError for a missing party."""
    facts = write_repositories(folder, documents, profile)
    for name, place in beginnings(folder, profile).items():
        training = folder / "training" / name
        files = sorted(path.relative_to(training).as_posix() for path in training.rglob("*.py"))
        # In the order of the hashes of their names: from all packages, and not chosen by anybody.
        chosen = sorted(files, key=lambda path: hashlib.sha256(path.encode()).digest())[: profile.few]
        for path in chosen:
            make_folder((place.training / path).parent)
            (place.training / path).write_bytes((training / path).read_bytes())
        facts[name]["first_files"] = len(chosen)
    return facts
