"""What the coordinator measures releases with: passages from the middle of as many public files as the tokens allow."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_coordinator.heldout import Heldout, passage
from sordino_privacy.errors import DataError


@given(st.text(alphabet="ab\n", max_size=200), st.integers(1, 100))
def test_a_passage_is_a_bounded_piece_and_a_short_text_is_one_whole(text: str, length: int) -> None:
    piece = passage(text, length)
    assert len(piece) <= length
    assert piece in text
    assert bool(piece) == bool(text)
    if len(text) <= length:
        assert piece == text


def test_a_passage_begins_with_a_line_and_leaves_the_licence_out() -> None:
    text = "# licence\n" * 100 + "value = compute()\n" * 300 + "# end\n" * 100
    assert passage(text, 400).startswith("value = compute()\n")
    assert "licence" not in passage(text, 400)


def test_passages_come_from_all_over_the_folders(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / f"project{number % 4}" / f"file{number:02d}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"x{number}_{line} = {line}\n" for line in range(500)))
    held = Heldout.read([tmp_path / f"project{n}" for n in range(4)], tokens=4096)
    assert len(held.texts) == 8
    read = sorted(int(text[1 : text.index("_")]) % 4 for text in held.texts)
    assert read == [0, 0, 1, 1, 2, 2, 3, 3]
    assert held == Heldout.read([tmp_path / f"project{n}" for n in range(4)], tokens=4096)
    assert len(Heldout.read([tmp_path], tokens=100_000).texts) == 40


def test_folders_without_source_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no code\n" * 100)
    with pytest.raises(DataError, match="no source files to measure") as caught:
        Heldout.read([tmp_path], tokens=4096)
    assert "heldout" in str(caught.value.hint)
