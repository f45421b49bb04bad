"""Members and newcomers on disk: training and held-out folders, and of a newcomer the first files alone."""

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
    """Where each party's repository lies under `folder`."""
    return repository_places(folder, profile)


def beginnings(folder: Path, profile: FieldProfile) -> dict[str, Repository]:
    """Of each newcomer, the repository of its first files; what is held out is the same."""
    whole = places(folder, profile)
    return {name: replace(whole[name], training=folder / "few" / name) for name in profile.joining}


def write(
    folder: Path, documents: Iterable[SourceDocument], profile: FieldProfile
) -> dict[str, dict[str, int]]:
    """Writes everybody's folders; returns files and bytes of each. Raises DataError for a missing party."""
    facts = write_repositories(folder, documents, profile)
    for name, place in beginnings(folder, profile).items():
        training = folder / "training" / name
        files = sorted(path.relative_to(training).as_posix() for path in training.rglob("*.py"))
        # By the hash of their names: of all packages, and nobody's choice.
        chosen = sorted(files, key=lambda path: hashlib.sha256(path.encode()).digest())[: profile.few]
        for path in chosen:
            make_folder((place.training / path).parent)
            (place.training / path).write_bytes((training / path).read_bytes())
        facts[name]["first_files"] = len(chosen)
    return facts
