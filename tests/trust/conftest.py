from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from sordino_platform.architecture import ModelConfig
from sordino_platform.charter import ModelTerms
from sordino_platform.identity.ceremony import Foundation, found_in_folder

TINY = ModelConfig(vocabulary=64, context=16, layers=1, heads=2, width=8, hidden=16)
TERMS = ModelTerms.of(TINY, base_sha256=b"b" * 32, tokenizer_sha256=b"t" * 32)


@pytest.fixture
def terms() -> ModelTerms:
    """A model small enough to write a release of in no time."""
    return TERMS


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Foundation]:
    """Founds each kind of federation once a session; `twin` 1 has another root than `twin` 0."""

    @cache
    def make(members: int, twin: int) -> Foundation:
        return found_in_folder(
            tmp_path_factory.mktemp("original") / "federation",
            federation="demo",
            members=[(f"member-{index}", f"Organisation {index}") for index in range(members)],
            model=TERMS,
        )

    return make


@pytest.fixture
def federation(original: Callable[..., Foundation], tmp_path: Path) -> Callable[..., Foundation]:
    """A federation of one's own to change: `federation(members=5)`. A copy, because a ceremony waits for the disk."""

    def make(*, members: int = 5, twin: int = 0) -> Foundation:
        foundation = original(members, twin)
        home, folder = foundation.root.parent, tmp_path / f"federation-{members}-{twin}"
        shutil.copytree(home, folder)
        return replace(
            foundation,
            root=folder / "root",
            coordinator=folder / "coordinator",
            members={name: folder / "members" / name for name in foundation.members},
        )

    return make


@pytest.fixture(scope="session")
def founded(original: Callable[..., Foundation]) -> Foundation:
    """One federation of five that no test changes."""
    return original(5, 0)
