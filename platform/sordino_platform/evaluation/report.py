"""The full report on a model, per project and over all projects: with intervals, and with the baselines of the same
run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from sordino_platform.evaluation.baselines import PPMD_ORDER, NGram, ppmd_bits_per_byte, xz_bits_per_byte
from sordino_platform.evaluation.figures import Columns, JudgedLine, columns_of, figures_of, judged_lines
from sordino_platform.evaluation.lines import MeasuredPosition, Words, cursors, rest_of_line
from sordino_platform.evaluation.loss import Mix, Scores, score
from sordino_platform.evaluation.memory import RepositoryMemory, complete_alone, mixing, score_alone
from sordino_platform.evaluation.sample import Plan, SampledFile, sample_of
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError

if TYPE_CHECKING:
    from sordino_platform.model import Decoder


class MeasuredModel(Protocol):
    """The interface for measuring a model that is not our own decoder."""

    def score(
        self, documents: Sequence[Sequence[int]], *, overlap: float, mix: Mix | None = None
    ) -> list[Scores]:
        """As `loss.score`."""
        ...

    def complete(
        self, cursor: MeasuredPosition, *, max_tokens: int, memory: RepositoryMemory | None
    ) -> tuple[bytes, float]:
        """As `greedy.complete`, for one cursor, up to the end of its line."""
        ...


class Measurement:
    """Projects, sampled once, so that every figure uses the same tokens and the same cursors.

    `projects` maps names to whole files. Raises DataError when there is nothing to measure.
    """

    def __init__(self, tokenizer: Words, projects: Mapping[str, Sequence[str]], plan: Plan) -> None:
        sample = {name: sample_of(texts, tokenizer, plan) for name, texts in sorted(projects.items())}
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
        """The samples that are measured, file by file."""
        return [f.text for files in self._sample.values() for f in files]

    @property
    def facts(self) -> dict[str, Any]:
        """The plan, and how much of it could be measured."""
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

        def scores(name: str, files: Sequence[SampledFile]) -> list[Scores]:
            mix = None if memories is None else mixing(memories[name])
            return score(model, [f.ids for f in files], overlap=self._plan.overlap, mix=mix)

        def lines(name: str, at: Sequence[MeasuredPosition]) -> list[tuple[bytes, float]]:
            memory = None if memories is None else memories[name]
            return _model_lines(model, self._pieces, at, self._plan, on_line, memory)

        return self._measure(scores, lines)

    def of_reader(
        self, reader: MeasuredModel, *, memories: Mapping[str, RepositoryMemory] | None = None
    ) -> dict[str, Any]:
        """As `of_model`, for a model that is not our own decoder."""

        def scores(name: str, files: Sequence[SampledFile]) -> list[Scores]:
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
        """By project: bits, bytes, correctly predicted tokens and tokens of each file, without the lines."""
        found = {}
        for name, files in self._sample.items():
            mix = None if memories is None else mixing(memories[name])
            found[name] = columns_of(
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
        """The figures of the n-gram baseline. It has no confidence by which it could choose the lines to show."""
        most = self._plan.line_tokens
        return self._measure(
            lambda name, files: [ngram.score(f.ids) for f in files],
            lambda name, at: [
                (ngram.complete(c.prompt, c.heal, self._pieces, max_tokens=most), 0.0) for c in at
            ],
        )

    def _measure(
        self,
        scores_of: Callable[[str, Sequence[SampledFile]], list[Scores]],
        answers_of: Callable[[str, Sequence[MeasuredPosition]], list[tuple[bytes, float]]],
    ) -> dict[str, Any]:
        per_project: dict[str, dict[str, Any]] = {}
        columns: list[Columns] = []
        lines: list[list[JudgedLine]] = []
        for name, files in self._sample.items():
            scores = scores_of(name, files)
            column = columns_of(files, scores)
            answered = judged_lines(answers_of(name, self._marks[name]), self._marks[name])
            columns.append(column)
            lines.append(answered)
            per_project[name] = figures_of(column, answered)
        joined = Columns(
            *([v for column in columns for v in getattr(column, name)] for name in Columns._fields)
        )
        offset, together = 0, []
        for column, answered in zip(columns, lines, strict=True):
            together += [JudgedLine(a.file + offset, a.exact, a.similarity, a.confidence) for a in answered]
            offset += len(column.bits)
        return {**figures_of(joined, together), "per_project": per_project}


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

    `projects` maps names to whole files. `prime` is public training text for the baselines (none: the file alone). With
    `memories`, one for each project, the same figures follow for the memory alone and for both together. No memory may
    hold a measured file (`measured_texts` names those). `on_line` sees each cursor with the model's guess; nothing else
    gets the text itself. Deterministic for the same inputs on one machine. Raises DataError.
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
