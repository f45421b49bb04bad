"""The charter's term for a shared memory: asked for by name, shown, and a change that waits for a person."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from sordino_platform.canonical import encode
from sordino_platform.charter import SharedMemoryPolicy
from sordino_platform.charter.changes import ChangeKind, changes
from sordino_platform.charter.commands import app
from sordino_platform.charter.drafting import read_draft, revised


def drafted(root: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["new", str(root), *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_federation_counts_only_where_its_founder_asks_for_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert "shared memory" not in drafted(root, "--federation", "demo")
    assert b"shared_memory" not in encode(read_draft(root)), (
        "the bytes are those of a charter before the term"
    )
    assert "shared memory" in drafted(root, "--shared-memory", "--replace")
    assert read_draft(root).shared_memory == SharedMemoryPolicy()
    shown = json.loads(drafted(root, "--replace", "--json"))
    assert shown["shared_memory"]["smallest_witnesses"] == 3, "what nobody names stays"
    drafted(root, "--no-shared-memory", "--replace")
    assert read_draft(root).shared_memory is None


def test_a_new_or_a_weaker_term_waits_for_a_person(tmp_path: Path) -> None:
    drafted(tmp_path / "root", "--federation", "demo")
    plain = read_draft(tmp_path / "root")
    counting = revised(plain, shared_memory=SharedMemoryPolicy())
    added = changes(plain, counting)
    assert added
    assert all(change.weaker and change.kind is ChangeKind.TERMS for change in added)
    weaker = revised(plain, shared_memory=SharedMemoryPolicy(smallest_witnesses=2))
    assert [change.weaker for change in changes(counting, weaker)] == [True]
    assert [change.kind for change in changes(weaker, counting)] == [ChangeKind.STRICTER]
