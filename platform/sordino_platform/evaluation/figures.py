"""Figures with their intervals, from scores per file and answers per line. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sordino_platform.evaluation.lines import MeasuredPosition, rest_of_line
from sordino_platform.evaluation.loss import Scores
from sordino_platform.evaluation.sample import SampledFile
from sordino_platform.evaluation.statistics import Interval, edit_similarity, ratio_interval

SHOWN_SHARE = 0.3


class Columns(NamedTuple):
    """The raw figures of one project: one entry per file. They are needed to compare two models pairwise."""

    bits: list[float]
    sizes: list[float]
    correct: list[float]
    tokens: list[float]


@dataclass(slots=True)
class JudgedLine:
    """One answered cursor: its file, whether the answer is exact, how similar it is, and how sure the model was."""

    file: int
    exact: float
    similarity: float
    confidence: float


def columns_of(files: Sequence[SampledFile], scores: Sequence[Scores]) -> Columns:
    """The columns of one project. `scores` are in the order of `files`."""
    return Columns(
        [float(s.nats.astype(np.float64).sum()) / math.log(2) for s in scores],
        [float(len(f.text.encode())) for f in files],
        [float(s.correct.sum()) for s in scores],
        [float(len(f.ids)) for f in files],
    )


def figures_of(column: Columns, lines: Sequence[JudgedLine]) -> dict[str, Any]:
    """Every figure of a report with its interval; None when there was nothing to measure."""
    bits, sizes, correct, tokens = column
    figures: dict[str, Any] = {}
    _put(figures, "bits_per_byte", ratio_interval(bits, sizes))
    _put(figures, "next_token_accuracy", ratio_interval(correct, tokens))
    by_file = sorted({line.file for line in lines})
    counts = [float(sum(line.file == f for line in lines)) for f in by_file]
    exact = [sum(line.exact for line in lines if line.file == f) for f in by_file]
    similar = [sum(line.similarity for line in lines if line.file == f) for f in by_file]
    _put(figures, "line_exact_match", ratio_interval(exact, counts))
    _put(figures, "line_edit_similarity", ratio_interval(similar, counts))
    shown = sorted(lines, key=lambda line: -line.confidence)[: math.ceil(SHOWN_SHARE * len(lines))]
    figures["precision_at_30"] = sum(line.exact for line in shown) / len(shown) if shown else None
    figures["tokens"], figures["lines"] = int(sum(tokens)), len(lines)
    return figures


def _put(figures: dict[str, Any], name: str, measured: tuple[float, Interval]) -> None:
    """Writes a figure and its interval; null when there was nothing to measure, because JSON has no NaN."""
    value, interval = measured
    absent = math.isnan(value)
    figures[name] = None if absent else round(value, 5)
    figures[f"{name}_ci"] = None if absent else [round(end, 5) for end in interval]


def judged_lines(
    answers: Sequence[tuple[bytes, float]], marks: Sequence[MeasuredPosition]
) -> list[JudgedLine]:
    """How right each answer is: the written text, up to the end of its line, compared with the real text."""
    judged = []
    for (written, confidence), cursor in zip(answers, marks, strict=True):
        guess = rest_of_line(written, cursor.heal)
        judged.append(
            JudgedLine(
                cursor.file, float(guess == cursor.truth), edit_similarity(guess, cursor.truth), confidence
            )
        )
    return judged
