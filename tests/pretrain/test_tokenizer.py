"""The rules that training, serving and healing stand on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_platform.tokenizer import END, MIDDLE, PREFIX, SPECIALS, SUFFIX, Tokenizer
from sordino_privacy.errors import ConfigurationError

SHIPPED = Tokenizer.shipped()


@given(st.text(max_size=200))
def test_every_text_comes_back_as_it_was(text: str) -> None:
    assert SHIPPED.decode(SHIPPED.encode(text)) == text


@given(st.text(alphabet="ab \n\t{};.<|>prefixend", max_size=200))
def test_a_newline_always_starts_a_token(text: str) -> None:
    pieces = SHIPPED.token_bytes()
    assert all(b"\n" not in pieces[token][1:] for token in SHIPPED.encode(text))


@pytest.mark.parametrize("special", SPECIALS)
def test_source_text_that_spells_a_special_token_is_plain_text(special: str) -> None:
    ids = SHIPPED.encode(f"String s = {special!r};")
    assert min(ids) >= len(SPECIALS)
    assert SHIPPED.decode(ids) == f"String s = {special!r};"


def test_the_special_tokens_have_their_fixed_ids_and_no_text() -> None:
    assert (END, PREFIX, SUFFIX, MIDDLE) == (0, 1, 2, 3)
    assert SHIPPED.size == 4096
    assert SHIPPED.decode([END, PREFIX, SUFFIX, MIDDLE]) == ""
    assert SHIPPED.token_bytes()[:4] == [b""] * 4


@given(st.text(max_size=100))
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(text: str) -> None:
    pieces = SHIPPED.token_bytes()
    assert b"".join(pieces[token] for token in SHIPPED.encode(text)) == text.encode()


def test_many_texts_encode_as_one_by_one() -> None:
    texts = ["int x = 1;", "", "\n\n    return getName();\n"]
    assert SHIPPED.encode_many(texts) == [SHIPPED.encode(text) for text in texts]


def test_training_twice_gives_the_same_digest_and_a_copy_on_disk_too(tmp_path: Path) -> None:
    texts = ["public class Account { int balance; }\n" * 20, "def main():\n    return 1\n" * 20]
    trained = Tokenizer.train(texts, vocabulary=300)
    assert Tokenizer.train(texts, vocabulary=300).digest == trained.digest
    (tmp_path / "tokenizer.json").write_text(trained.to_json())
    assert Tokenizer.load(tmp_path / "tokenizer.json").digest == trained.digest
    assert trained.digest != SHIPPED.digest
    assert trained.size == 300


def test_a_prompt_that_fills_the_middle_puts_the_suffix_first() -> None:
    assert SHIPPED.fill([10, 11], [12]) == [SUFFIX, 12, PREFIX, 10, 11, MIDDLE]


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        Tokenizer.load(path)


def test_a_vocabulary_without_the_special_tokens_is_refused() -> None:
    text = SHIPPED.to_json().replace("<|middle|>", "<|muddle|>")
    with pytest.raises(ConfigurationError, match="special tokens"):
        Tokenizer.parse(text)
