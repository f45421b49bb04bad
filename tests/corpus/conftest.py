"""Trees of files for the tests of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Plant = Callable[[Mapping[str, str | bytes]], Path]
Source = Callable[[str], str]


@pytest.fixture
def source() -> Source:
    """Make a small program whose text is unlike that of any other name."""

    def write(name: str) -> str:
        body = "\n".join(f"    {name}_{i} = compute_{name}({i}) + {name}_{i * 7 % 5}" for i in range(12))
        return f"def run_{name}():\n{body}\n    return {name}_0\n"

    return write


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Write files below a fresh repository and return its folder."""
    root = tmp_path / "repository"

    def write(files: Mapping[str, str | bytes]) -> Path:
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return write
