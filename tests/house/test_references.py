"""A file of ours that a docstring, a comment or a page names by its path is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("privacy", "platform", "client", "coordinator", "deploy", "docs", "requirements", "tests")
NAMED = re.compile(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w\.(?:py|md|ts|sh))\b")


def texts() -> Iterator[Path]:
    """All that is read by people: the product's and the tests' modules, and the pages."""
    for folder in ("privacy", "platform", "coordinator", "tests", "client/sordino_client"):
        yield from (ROOT / folder).rglob("*.py")
    yield from (ROOT / "docs").rglob("*.md")
    yield from ROOT.glob("*.md")


def named(text: str) -> set[str]:
    """The paths in a text that begin with one of our folders."""
    return set(NAMED.findall(text))


def test_a_file_that_is_named_exists() -> None:
    lost = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in texts()
        if path != Path(__file__)
        for name in sorted(named(path.read_text(encoding="utf-8")))
        if not (ROOT / name).exists()
    ]
    assert lost == []


def test_names_are_found_in_prose() -> None:
    assert named("see (docs/nowhere.md) and `tests/house/a.py::b`") == {"docs/nowhere.md", "tests/house/a.py"}
    assert named("of ggml/docs/gguf.md, or ./docs/x.md") == set()
