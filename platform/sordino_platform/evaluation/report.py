"""The full report on a model: per project and over all, with intervals, beside the baselines of the same run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sordino_platform.evaluation.baselines import NGram, xz_bits_per_byte
from sordino_platform.evaluation.lines import Cursor, cursors, rest_of_line
from sordino_platform.evaluation.loss import Scores, score
from sordino_platform.evaluation.statistics import Interval, edit_similarity, ratio_interval
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError

if TYPE_CHECKING:
    from sordino_platform.model import Decoder

SHOWN_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of each project is measured. The sample follows from the files' contents alone."""

    tokens: int = 16_000
    tokens_per_file: int = 2_000
    lines: int = 80
    prompt_tokens: int = 384
    line_tokens: int = 48


@dataclass(frozen=True, slots=True)
class _File:
    text: str
    ids: tuple[int, ...]


@dataclass(slots=True)
class _Line:
    """One answered cursor."""

    file: int
    exact: float
    similarity: float
    confidence: float


class _Column(NamedTuple):
    """One entry per file."""

    bits: list[float]
    sizes: list[float]
    correct: list[float]
    tokens: list[float]


Answers = Callable[[Sequence[Cursor]], list[tuple[bytes, float]]]


def evaluate(
    model: Decoder,
    tokenizer: Tokenizer,
    projects: Mapping[str, Sequence[str]],
    *,
    plan: Plan | None = None,
    prime: npt.NDArray[np.uint16] | None = None,
    on_progress: Callable[[str], None] = lambda stage: None,
    on_line: Callable[[Cursor, str], None] = lambda cursor, guess: None,
) -> dict[str, Any]:
    """Bits per byte, next-token accuracy, rest-of-line exact match and edit similarity; see `docs/model-card.md`.

    `projects` maps names to whole files. `prime` is training text for the n-gram baseline (none: the file alone).
    `on_line` sees each cursor with the model's guess; it is the only way out for the text itself.
    Deterministic for the same inputs on one machine. Raises DataError when there is nothing to measure.
    """
    plan = plan or Plan()
    sample = {name: _sample(texts, tokenizer, plan) for name, texts in sorted(projects.items())}
    sample = {name: files for name, files in sample.items() if files}
    if not sample:
        raise DataError("there is no source code to measure on", hint="name a folder that holds some")
    pieces = tokenizer.token_bytes()
    marks = {
        name: cursors(
            [f.text for f in files],
            tokenizer,
            count=plan.lines,
            prompt_tokens=plan.prompt_tokens,
            pieces=pieces,
        )
        for name, files in sample.items()
    }
    on_progress("model")
    own = _measure(
        sample,
        marks,
        lambda files: score(model, [f.ids for f in files]),
        lambda at: _model_lines(model, pieces, at, plan, on_line),
    )
    on_progress("n-gram")
    ngram = NGram(np.zeros(0, dtype=np.uint16) if prime is None else prime, vocabulary=tokenizer.size)
    baseline = _measure(
        sample,
        marks,
        lambda files: [ngram.score(f.ids) for f in files],
        lambda at: [(ngram.complete(c.prompt, c.heal, pieces, max_tokens=plan.line_tokens), 0.0) for c in at],
    )
    on_progress("xz")
    everything = [f.text for files in sample.values() for f in files]
    return {
        **own,
        "baselines": {
            "xz": {"bits_per_byte": xz_bits_per_byte(everything)},
            "ngram_cache": {
                **baseline,
                "order": ngram.order,
                "prime_tokens": 0 if prime is None else len(prime),
            },
        },
        "sample": {
            **asdict(plan),
            "files": len(everything),
            "bytes": sum(len(text.encode()) for text in everything),
            "cursors": sum(map(len, marks.values())),
        },
    }


def _sample(texts: Sequence[str], tokenizer: Tokenizer, plan: Plan) -> list[_File]:
    """Whole files or their beginnings, in the order of their hashes, up to the plan's tokens."""
    chosen: list[_File] = []
    left = plan.tokens
    for text in sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).digest()):
        if left < 64:
            break
        ids = tokenizer.encode(text)[: min(plan.tokens_per_file, left)]
        shown = tokenizer.decode(ids)
        # A cut inside a character would decode to another text than was scored.
        if len(ids) >= 16 and text.startswith(shown):
            chosen.append(_File(shown, tuple(ids)))
            left -= len(ids)
    return chosen


def _measure(
    sample: Mapping[str, Sequence[_File]],
    marks: Mapping[str, Sequence[Cursor]],
    scores_of: Callable[[Sequence[_File]], list[Scores]],
    answers_of: Answers,
) -> dict[str, Any]:
    per_project: dict[str, dict[str, Any]] = {}
    columns: list[_Column] = []
    lines: list[list[_Line]] = []
    for name, files in sample.items():
        scores = scores_of(files)
        column = _Column(
            [float(s.nats.astype(np.float64).sum()) / math.log(2) for s in scores],
            [float(len(f.text.encode())) for f in files],
            [float(s.correct.sum()) for s in scores],
            [float(len(f.ids)) for f in files],
        )
        answered = _judge(answers_of(marks[name]), marks[name])
        columns.append(column)
        lines.append(answered)
        per_project[name] = _figures(column, answered)
    joined = _Column(*([v for column in columns for v in getattr(column, name)] for name in _Column._fields))
    offset, together = 0, []
    for column, answered in zip(columns, lines, strict=True):
        together += [_Line(a.file + offset, a.exact, a.similarity, a.confidence) for a in answered]
        offset += len(column.bits)
    return {**_figures(joined, together), "per_project": per_project}


def _figures(column: _Column, lines: Sequence[_Line]) -> dict[str, Any]:
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
    """Writes a figure and its interval; null where there was nothing to measure, since JSON knows no NaN."""
    value, interval = measured
    absent = math.isnan(value)
    figures[name] = None if absent else round(value, 5)
    figures[f"{name}_ci"] = None if absent else [round(end, 5) for end in interval]


def _judge(answers: Sequence[tuple[bytes, float]], marks: Sequence[Cursor]) -> list[_Line]:
    judged = []
    for (written, confidence), cursor in zip(answers, marks, strict=True):
        guess = rest_of_line(written, cursor.heal)
        judged.append(
            _Line(cursor.file, float(guess == cursor.truth), edit_similarity(guess, cursor.truth), confidence)
        )
    return judged


def _model_lines(
    model: Decoder,
    pieces: Sequence[bytes],
    marks: Sequence[Cursor],
    plan: Plan,
    on_line: Callable[[Cursor, str], None],
) -> list[tuple[bytes, float]]:
    from sordino_platform.evaluation.greedy import complete

    answers: list[tuple[bytes, float]] = []
    for at in range(0, len(marks), 8):
        group = marks[at : at + 8]
        answers += complete(
            model,
            [c.prompt for c in group],
            pieces,
            [c.heal for c in group],
            max_tokens=plan.line_tokens,
            finished=lambda written: b"\n" in written,
        )
    for (written, _), cursor in zip(answers, marks, strict=True):
        on_line(cursor, rest_of_line(written, cursor.heal))
    return answers
