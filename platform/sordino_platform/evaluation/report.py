"""The full report on a model: per project and over all, with intervals, beside the baselines of the same run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sordino_platform.evaluation.baselines import PPMD_ORDER, NGram, ppmd_bits_per_byte, xz_bits_per_byte
from sordino_platform.evaluation.lines import MeasuredPosition, Words, cursors, rest_of_line
from sordino_platform.evaluation.loss import Mix, Scores, score
from sordino_platform.evaluation.memory import RepositoryMemory, complete_alone, mixing, score_alone
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
    overlap: float = 0.5


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


class Columns(NamedTuple):
    """What a measurement of one project is made of: one entry per file. Whoever pairs two contenders needs these."""

    bits: list[float]
    sizes: list[float]
    correct: list[float]
    tokens: list[float]


class MeasuredModel(Protocol):
    """A model that is no decoder of ours, as a measurement asks it."""

    def score(
        self, documents: Sequence[Sequence[int]], *, overlap: float, mix: Mix | None = None
    ) -> list[Scores]:
        """As `loss.score`."""
        ...

    def complete(
        self, cursor: MeasuredPosition, *, max_tokens: int, memory: RepositoryMemory | None
    ) -> tuple[bytes, float]:
        """As `greedy.complete`, of one cursor, up to the end of its line."""
        ...


class Measurement:
    """Projects, sampled once: every figure that is taken of them is of the same tokens and the same cursors.

    `projects` maps names to whole files. Raises DataError when there is nothing to measure.
    """

    def __init__(self, tokenizer: Words, projects: Mapping[str, Sequence[str]], plan: Plan) -> None:
        sample = {name: _sample(texts, tokenizer, plan) for name, texts in sorted(projects.items())}
        self._sample = {name: files for name, files in sample.items() if files}
        if not self._sample:
            raise DataError("there is no source code to measure on", hint="name a folder that holds some")
        self._plan, self._vocabulary, self._pieces = plan, tokenizer.size, tokenizer.token_bytes()
        self._marks = {
            name: cursors(
                [f.text for f in files],
                tokenizer,
                count=plan.lines,
                prompt_tokens=plan.prompt_tokens,
                pieces=self._pieces,
            )
            for name, files in self._sample.items()
        }

    @property
    def texts(self) -> list[str]:
        """What is measured, file by file."""
        return [f.text for files in self._sample.values() for f in files]

    @property
    def facts(self) -> dict[str, Any]:
        """The plan, and how much came of it."""
        size = sum(len(text.encode()) for text in self.texts)
        marks = sum(map(len, self._marks.values()))
        return {**asdict(self._plan), "files": len(self.texts), "bytes": size, "cursors": marks}

    def of_model(
        self,
        model: Decoder,
        *,
        memories: Mapping[str, RepositoryMemory] | None = None,
        on_line: Callable[[MeasuredPosition, str], None] = lambda cursor, guess: None,
    ) -> dict[str, Any]:
        """The figures of a model, or of a model and each project's memory together."""

        def scores(name: str, files: Sequence[_File]) -> list[Scores]:
            mix = None if memories is None else mixing(memories[name])
            return score(model, [f.ids for f in files], overlap=self._plan.overlap, mix=mix)

        def lines(name: str, at: Sequence[MeasuredPosition]) -> list[tuple[bytes, float]]:
            memory = None if memories is None else memories[name]
            return _model_lines(model, self._pieces, at, self._plan, on_line, memory)

        return self._measure(scores, lines)

    def of_reader(
        self, reader: MeasuredModel, *, memories: Mapping[str, RepositoryMemory] | None = None
    ) -> dict[str, Any]:
        """As `of_model`, of what is no decoder of ours."""

        def scores(name: str, files: Sequence[_File]) -> list[Scores]:
            mix = None if memories is None else mixing(memories[name])
            return reader.score([f.ids for f in files], overlap=self._plan.overlap, mix=mix)

        def lines(name: str, at: Sequence[MeasuredPosition]) -> list[tuple[bytes, float]]:
            memory = None if memories is None else memories[name]
            return [
                reader.complete(cursor, max_tokens=self._plan.line_tokens, memory=memory) for cursor in at
            ]

        return self._measure(scores, lines)

    def columns_of_model(
        self, model: Decoder, *, memories: Mapping[str, RepositoryMemory] | None = None
    ) -> dict[str, Columns]:
        """By project: bits, bytes, tokens foretold and tokens of each file, without the lines."""
        found = {}
        for name, files in self._sample.items():
            mix = None if memories is None else mixing(memories[name])
            found[name] = _columns(
                files, score(model, [f.ids for f in files], overlap=self._plan.overlap, mix=mix)
            )
        return found

    def of_lines(
        self,
        model: Decoder,
        *,
        memories: Mapping[str, RepositoryMemory] | None,
        on_line: Callable[[MeasuredPosition, str], None],
    ) -> None:
        """Completes the cursors alone: `on_line` sees each with the model's guess."""
        for name, at in self._marks.items():
            memory = None if memories is None else memories[name]
            _model_lines(model, self._pieces, at, self._plan, on_line, memory)

    def of_memory(self, memories: Mapping[str, RepositoryMemory]) -> dict[str, Any]:
        """The figures of each project's memory alone."""
        size, most = self._vocabulary, self._plan.line_tokens
        return self._measure(
            lambda name, files: score_alone(memories[name], [f.ids for f in files], vocabulary=size),
            lambda name, at: [
                complete_alone(memories[name], c.before, c.heal, self._pieces, max_tokens=most) for c in at
            ],
        )

    def of_ngram(self, ngram: NGram) -> dict[str, Any]:
        """The figures of the n-gram baseline. It has no confidence to choose the lines by that it would show."""
        most = self._plan.line_tokens
        return self._measure(
            lambda name, files: [ngram.score(f.ids) for f in files],
            lambda name, at: [
                (ngram.complete(c.prompt, c.heal, self._pieces, max_tokens=most), 0.0) for c in at
            ],
        )

    def _measure(
        self,
        scores_of: Callable[[str, Sequence[_File]], list[Scores]],
        answers_of: Callable[[str, Sequence[MeasuredPosition]], list[tuple[bytes, float]]],
    ) -> dict[str, Any]:
        per_project: dict[str, dict[str, Any]] = {}
        columns: list[Columns] = []
        lines: list[list[_Line]] = []
        for name, files in self._sample.items():
            scores = scores_of(name, files)
            column = _columns(files, scores)
            answered = _judge(answers_of(name, self._marks[name]), self._marks[name])
            columns.append(column)
            lines.append(answered)
            per_project[name] = _figures(column, answered)
        joined = Columns(
            *([v for column in columns for v in getattr(column, name)] for name in Columns._fields)
        )
        offset, together = 0, []
        for column, answered in zip(columns, lines, strict=True):
            together += [_Line(a.file + offset, a.exact, a.similarity, a.confidence) for a in answered]
            offset += len(column.bits)
        return {**_figures(joined, together), "per_project": per_project}


def evaluate(
    model: Decoder,
    tokenizer: Tokenizer,
    projects: Mapping[str, Sequence[str]],
    *,
    plan: Plan | None = None,
    prime: npt.NDArray[np.uint16] | None = None,
    memories: Mapping[str, RepositoryMemory] | None = None,
    on_progress: Callable[[str], None] = lambda stage: None,
    on_line: Callable[[MeasuredPosition, str], None] = lambda cursor, guess: None,
) -> dict[str, Any]:
    """Bits per byte, next-token accuracy, rest-of-line exact match and edit similarity; see `docs/model-card.md`.

    `projects` maps names to whole files. `prime` is public training text for the baselines (none: the file alone).
    With `memories`, one of each project, the same figures follow for the memory alone and for both together; none of
    them may hold a measured file (`measured_texts` names those). `on_line` sees each cursor with the model's guess; it
    is the only way out for the text itself. Deterministic for the same inputs on one machine. Raises DataError.
    """
    measurement = Measurement(tokenizer, projects, plan or Plan())
    on_progress("model")
    layers = {"model": measurement.of_model(model, on_line=on_line)}
    if memories is not None:
        on_progress("memory")
        layers["memory"] = measurement.of_memory(memories)
        on_progress("model and memory")
        layers["both"] = measurement.of_model(model, memories=memories)
    on_progress("n-gram")
    ngram = NGram(np.zeros(0, dtype=np.uint16) if prime is None else prime, vocabulary=tokenizer.size)
    baseline = measurement.of_ngram(ngram)
    on_progress("compression")
    primed = () if prime is None else (tokenizer.decode(prime.tolist()),)
    return {
        **layers["model"],
        "layers": layers,
        "baselines": {
            "xz": {"bits_per_byte": xz_bits_per_byte(measurement.texts)},
            "ppmd": {
                "bits_per_byte": ppmd_bits_per_byte(measurement.texts, prime=primed),
                "order": PPMD_ORDER,
                "prime_bytes": sum(len(text.encode()) for text in primed),
            },
            "ngram_cache": {
                **baseline,
                "order": ngram.order,
                "prime_tokens": 0 if prime is None else len(prime),
            },
        },
        "sample": measurement.facts,
    }


def measured_texts(texts: Sequence[str], tokenizer: Words, plan: Plan) -> set[str]:
    """Which of a project's files `evaluate` measures, wholly or in part: no memory may hold them."""
    beginnings = tuple(file.text for file in _sample(texts, tokenizer, plan))
    return {text for text in texts if text.startswith(beginnings)}


def _sample(texts: Sequence[str], tokenizer: Words, plan: Plan) -> list[_File]:
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


def _columns(files: Sequence[_File], scores: Sequence[Scores]) -> Columns:
    return Columns(
        [float(s.nats.astype(np.float64).sum()) / math.log(2) for s in scores],
        [float(len(f.text.encode())) for f in files],
        [float(s.correct.sum()) for s in scores],
        [float(len(f.ids)) for f in files],
    )


def _figures(column: Columns, lines: Sequence[_Line]) -> dict[str, Any]:
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


def _judge(answers: Sequence[tuple[bytes, float]], marks: Sequence[MeasuredPosition]) -> list[_Line]:
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
    marks: Sequence[MeasuredPosition],
    plan: Plan,
    on_line: Callable[[MeasuredPosition, str], None],
    memory: RepositoryMemory | None,
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
            recalls=None if memory is None else [memory(c.before) for c in group],
        )
    for (written, _), cursor in zip(answers, marks, strict=True):
        on_line(cursor, rest_of_line(written, cursor.heal))
    return answers
