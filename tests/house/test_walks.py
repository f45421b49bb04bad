"""The reader's way in names functions that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.findall(r"`([\w/.]+)::(\w+)`", (ROOT / "docs" / "walks.md").read_text(encoding="utf-8"))


@cache
def names(path: str) -> frozenset[str]:
    """What a file defines: functions, methods and classes."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".ts"):
        return frozenset(re.findall(r"(?:function|class|async) (\w+)", text))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(ast.parse(text)) if isinstance(node, kinds))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=str)
def test_what_a_walk_names_exists(path: str, name: str) -> None:
    assert name in names(path)


def test_the_walks_name_much_of_the_way() -> None:
    assert len(NAMED) > 50
    assert "no_such_function" not in names("client/sordino_client/round/app.py")
