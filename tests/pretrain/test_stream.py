"""Training windows: the whole corpus once an epoch, in an order that resumes exactly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.training.stream import (
    FORMAT,
    KINDS,
    MIXTURE,
    Position,
    Shard,
    SourceDocument,
    Tokens,
    WindowStream,
    encode_shard,
    fill,
    is_validation,
    open_shard,
)
from sordino_platform.tokenizer import END, MIDDLE, PREFIX, SUFFIX, Tokenizer
from sordino_privacy.errors import DataError, StorageError

CONTEXT = 32


def shard(lengths: list[int], kinds: list[int] | None = None) -> Shard:
    """Documents whose tokens count up from 10, each ended by END."""
    parts = [np.append(np.arange(length - 1, dtype=np.uint16) % 4000 + 10, END) for length in lengths]
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    numbers = np.array(kinds or [0] * len(lengths), dtype=np.uint8)
    return Shard(
        vocabulary=4096, tokens=np.concatenate(parts).astype(np.uint16), starts=starts, kinds=numbers
    )


def ordinary(windows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Counter[int]:
    return Counter(int(token) for token in windows.ravel() if token > MIDDLE)


def test_a_resumed_stream_draws_what_the_uninterrupted_one_would_have() -> None:
    data = shard([50, 7, 300, 120, 33, 64] * 3)
    whole = WindowStream(data, CONTEXT, 1, Position())
    first = [whole.batch(4) for _ in range(30)]
    again = WindowStream(data, CONTEXT, 1, Position())
    for expected in first[:17]:
        np.testing.assert_array_equal(again.batch(4), expected)
    resumed = WindowStream(
        data, CONTEXT, 1, Position(epoch=again.position.epoch, window=again.position.window)
    )
    for expected in first[17:]:
        np.testing.assert_array_equal(resumed.batch(4), expected)
    assert whole.position.epoch > 0


def test_every_window_has_the_same_length_filled_or_not() -> None:
    windows = WindowStream(shard([3, 2, 90, 1, 40] * 9), CONTEXT, 2, Position()).batch(64)
    assert windows.shape == (64, CONTEXT + 1)
    filled = [(row == MIDDLE).sum() for row in windows]
    assert set(filled) == {0, 1}


def test_an_epoch_uses_every_document_about_once() -> None:
    data = shard([67] * 40)
    stream = WindowStream(data, CONTEXT, 3, Position())
    windows = (67 * 40 - 1) // CONTEXT
    counts = ordinary(stream.batch(windows))
    assert stream.position == Position(epoch=0, window=windows)
    # 40 documents hold each token once; windows overlap by a token, and filling costs up to three of 33.
    assert min(counts[token] for token in range(10, 76)) >= 32
    assert max(counts.values()) <= 44


def test_two_seeds_and_two_epochs_have_different_orders() -> None:
    data = shard([64] * 40)
    batches = [
        WindowStream(data, CONTEXT, seed, Position(epoch=epoch)).batch(8).tobytes()
        for seed in (1, 2)
        for epoch in (0, 1)
    ]
    assert len(set(batches)) == 4


def shares_of(data: Shard, mixture: tuple[float, ...], epoch: int = 0) -> list[float]:
    documents = WindowStream(data, CONTEXT, 4, Position(epoch=epoch), mixture).documents
    assert len(set(documents.tolist())) == documents.size
    counts = np.bincount(data.kinds[documents], minlength=len(KINDS))
    return [float(count) / documents.size for count in counts]


def test_each_kind_of_code_makes_up_its_share_of_an_epoch_and_no_more() -> None:
    data = shard([100] * 2400, [0] * 600 + [1] * 600 + [2] * 600 + [3] * 600)
    assert shares_of(data, MIXTURE) == pytest.approx(list(MIXTURE), abs=0.03)
    assert shares_of(data, (0.1, 0.1, 0.7, 0.1)) == pytest.approx([0.1, 0.1, 0.7, 0.1], abs=0.03)


def test_the_kind_with_the_largest_share_is_read_whole_and_of_the_others_a_fresh_part_each_epoch() -> None:
    data = shard([100] * 1200, [0] * 300 + [1] * 300 + [2] * 300 + [3] * 300)
    first, second = (
        set(WindowStream(data, CONTEXT, 4, Position(epoch=e)).documents.tolist()) for e in (0, 1)
    )
    assert set(range(300)) <= first & second
    assert {n for n in first if n >= 300} != {n for n in second if n >= 300}


def test_a_kind_that_a_corpus_lacks_takes_no_share_and_one_with_too_little_is_taken_whole() -> None:
    two = shard([100] * 900, [0] * 300 + [1] * 600)
    assert shares_of(two, MIXTURE) == pytest.approx([5 / 7, 2 / 7, 0, 0], abs=0.04)
    little = shard([100] * 610, [0] * 300 + [1] * 300 + [2] * 10)
    kinds = little.kinds[WindowStream(little, CONTEXT, 4, Position()).documents]
    assert (kinds == 2).sum() == 10


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
def test_filling_keeps_every_token_and_says_where_each_part_stands(
    lengths: list[int], cut: bool, seed: int
) -> None:
    tokens = shard(lengths).tokens
    window: Tokens = tokens[:-1] if cut and len(tokens) > 1 else tokens
    result = fill(window, np.random.default_rng(seed))
    assert len(result) == len(window) + 3
    suffix, prefix, middle = (int(np.flatnonzero(result == mark)[0]) for mark in (SUFFIX, PREFIX, MIDDLE))
    assert suffix < prefix < middle
    end = middle + 1 + int(np.flatnonzero(result[middle + 1 :] == END)[0])
    restored = np.concatenate(
        (
            result[:suffix],
            result[prefix + 1 : middle],
            result[middle + 1 : end],
            result[suffix + 1 : prefix],
            result[end:],
        )
    )
    longest_is_whole = restored[-1] == END and np.array_equal(restored, window)
    # A document that the window cuts gives its last token for the END that closes the middle.
    assert longest_is_whole or np.array_equal(restored[:-1], window[:-1])


def test_a_corpus_smaller_than_one_window_is_refused() -> None:
    with pytest.raises(DataError, match="smaller than one window"):
        WindowStream(shard([CONTEXT // 2]), CONTEXT, 1, Position())


def test_documents_are_encoded_once_and_read_back(tmp_path: Path) -> None:
    tokenizer = Tokenizer.shipped()
    texts = [f"class A{n} {{ int x = {n}; }}\n" for n in range(5)]
    documents = [
        SourceDocument(project="p", path=f"{n}.java", language="java", text=t) for n, t in enumerate(texts)
    ]
    assert open_shard(tmp_path, tokenizer) is None
    encode_shard(documents, tokenizer, tmp_path)
    data = open_shard(tmp_path, tokenizer)
    assert data is not None
    assert [tokenizer.decode(data.document(n).tolist()) for n in range(5)] == texts
    assert all(data.document(n)[-1] == END for n in range(5))


def test_a_shard_of_another_version_or_tokenizer_or_cut_short_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer.shipped()
    document = SourceDocument(project="p", path="a.java", language="java", text="class A {}\n" * 50)
    encode_shard([document], tokenizer, tmp_path)
    about = (tmp_path / "shard.json").read_text()
    (tmp_path / "shard.json").write_text(about.replace(FORMAT, "sordino-shard/1"))
    with pytest.raises(StorageError, match="another version"):
        open_shard(tmp_path, tokenizer)
    (tmp_path / "shard.json").write_text(about)
    with pytest.raises(StorageError, match="another tokenizer"):
        open_shard(tmp_path, Tokenizer.train([document.text], vocabulary=300))
    (tmp_path / "tokens.bin").write_bytes((tmp_path / "tokens.bin").read_bytes()[:-2])
    with pytest.raises(StorageError, match="cut short"):
        open_shard(tmp_path, tokenizer)


def test_about_one_document_in_four_hundred_is_kept_back_for_validation() -> None:
    names = [SourceDocument(project="p", path=f"{n}.java", language="java", text="") for n in range(8000)]
    assert 8 <= sum(map(is_validation, names)) <= 34
