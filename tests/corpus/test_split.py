"""Held-out code: whole directories, the same every time, and nothing that training has seen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.corpus import Corpus, SourceFile, split_heldout
from sordino_privacy.errors import DataError, UsageError


def program(seed: int, words: int = 60) -> str:
    return " ".join(f"w{seed:05}x{i}" for i in range(words))


def corpus(directories: dict[str, list[str]]) -> Corpus:
    files = [
        SourceFile.of("repo", f"{directory}/{i}.py", "Python", text)
        for directory, texts in directories.items()
        for i, text in enumerate(texts)
    ]
    return Corpus(files=tuple(files), excluded={})


SIZES = st.lists(st.lists(st.integers(10, 200), min_size=1, max_size=4), min_size=2, max_size=12)


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, share=st.floats(0.02, 0.9))
def test_directories_go_whole_to_one_side_and_neither_side_is_empty(
    sizes: list[list[int]], share: float
) -> None:
    whole = corpus(
        {f"d{i}": [program(100 * i + j, size) for j, size in enumerate(row)] for i, row in enumerate(sizes)}
    )
    training, heldout = split_heldout(whole, share)
    sides = [{file.directory for file in part.files} for part in (training, heldout)]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert sorted(file.name for part in (training, heldout) for file in part.files) == sorted(
        f.name for f in whole.files
    )
    assert split_heldout(whole, share) == (training, heldout)


def test_the_share_is_about_what_was_asked_for() -> None:
    whole = corpus({f"package{i}": [program(i)] for i in range(200)})
    for share in (0.05, 0.1, 0.3):
        _, heldout = split_heldout(whole, share)
        assert abs(heldout.bytes / whole.bytes - share) < 0.02


def test_the_order_of_the_files_makes_no_difference() -> None:
    whole = corpus({f"package{i}": [program(i)] for i in range(20)})
    _, heldout = split_heldout(whole, 0.2)
    _, again = split_heldout(whole.of(whole.files[::-1]), 0.2)
    assert {file.name for file in heldout.files} == {file.name for file in again.files}


def test_held_out_files_have_no_near_duplicate_in_training() -> None:
    directories = {f"package{i}": [program(i)] for i in range(20)}
    training, heldout = split_heldout(corpus(directories), 0.2)
    leaked, trained = heldout.files[0], training.files[0]
    # The same length, so that the same directories are chosen again.
    directories[trained.directory.removeprefix("repo/")] = [leaked.text.replace("x7 ", "y7 ")]
    _, cleaned = split_heldout(corpus(directories), 0.2)
    assert set(cleaned.files) == set(heldout.files) - {leaked}


def test_one_directory_cannot_be_split() -> None:
    with pytest.raises(DataError, match="lie in one directory"):
        split_heldout(corpus({"only": [program(1), program(2)]}), 0.1)


def test_copies_alone_cannot_be_held_out() -> None:
    copies = {f"package{i}": [program(1) + f" {i}"] for i in range(5)}
    with pytest.raises(DataError, match="near-duplicate"):
        split_heldout(corpus(copies), 0.2)


@pytest.mark.parametrize("share", [1, -0.5, 2, float("nan")])
def test_a_share_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(UsageError):
        split_heldout(corpus({"a": [program(1)], "b": [program(2)]}), share)


def test_a_share_of_nothing_holds_out_nothing_even_of_one_directory() -> None:
    whole = corpus({"only": [program(1)]})
    assert split_heldout(whole, 0) == (whole, whole.of(()))
