"""The figures of a report follow from columns and judged lines alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sordino_platform.evaluation.figures import Columns, JudgedLine, figures_of
from sordino_platform.evaluation.sample import LEAST_FILE_TOKENS, Plan, measured_texts, sample_of


class Letters:
    """One token a character."""

    size = 0x110000

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def token_bytes(self) -> list[bytes]:
        raise NotImplementedError


def test_what_was_not_measured_is_null_and_not_nought() -> None:
    figures = figures_of(Columns([], [], [], []), [])
    assert figures["bits_per_byte"] is None
    assert figures["line_exact_match_ci"] is None
    assert figures["precision_at_30"] is None
    assert (figures["tokens"], figures["lines"]) == (0, 0)


def test_precision_is_of_the_lines_of_which_the_model_is_surest() -> None:
    sure = [JudgedLine(0, 1.0, 1.0, 0.9)] * 3
    unsure = [JudgedLine(1, 0.0, 0.5, 0.1)] * 7
    figures = figures_of(Columns([8.0, 8.0], [2.0, 2.0], [1.0, 0.0], [2.0, 2.0]), [*unsure, *sure])
    assert figures["precision_at_30"] == 1.0
    assert figures["line_exact_match"] == pytest.approx(0.3)
    assert figures["line_edit_similarity"] == pytest.approx(0.65)
    assert (figures["bits_per_byte"], figures["next_token_accuracy"]) == (4.0, 0.25)


def test_a_sample_follows_from_contents_alone_and_names_every_file_that_it_touches() -> None:
    texts = [f"file {number} " * 20 for number in range(9)]
    plan = Plan(tokens=300, tokens_per_file=100)
    chosen = sample_of(texts, Letters(), plan)
    assert chosen == sample_of(texts[::-1] + texts, Letters(), plan)
    assert sum(len(file.ids) for file in chosen) <= plan.tokens
    touched = measured_texts(texts, Letters(), plan)
    assert len(touched) == len(chosen) == 3
    assert all(any(text.startswith(file.text) for text in touched) for file in chosen)
    assert sample_of(["x" * (LEAST_FILE_TOKENS - 1)], Letters(), plan) == []
