from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sordino_platform.architecture import ModelConfig
from sordino_platform.charter import ModelTerms
from sordino_platform.identity.ceremony import Foundation, found

TINY = ModelConfig(vocabulary=64, context=16, layers=1, heads=2, width=8, hidden=16)
TERMS = ModelTerms.of(TINY, base_sha256=b"b" * 32, tokenizer_sha256=b"t" * 32)


@pytest.fixture
def terms() -> ModelTerms:
    """A model small enough to write a release of in no time."""
    return TERMS


@pytest.fixture
def federation(tmp_path: Path) -> Callable[..., Foundation]:
    """Founds a federation in a fresh folder: `federation(members=5)`."""
    count = iter(range(1000))

    def make(*, members: int = 5, **terms: Any) -> Foundation:
        return found(
            tmp_path / f"federation-{next(count)}",
            federation="demo",
            members=[(f"member-{index}", f"Organisation {index}") for index in range(members)],
            model=TERMS,
            **terms,
        )

    return make


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Foundation:
    """One federation of five that no test changes."""
    return found(
        tmp_path_factory.mktemp("founded"),
        federation="demo",
        members=[(f"member-{index}", f"Organisation {index}") for index in range(5)],
        model=TERMS,
    )
