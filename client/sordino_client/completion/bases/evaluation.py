"""A base as it is served, measured on held-out code: alone, the memory alone, and both together."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_client.completion.bases import served
from sordino_client.completion.bases.vocabulary import BaseVocabulary
from sordino_client.completion.cache import KeyValueCache, causal
from sordino_client.completion.generation import CHUNK, Generator
from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_platform import bases
from sordino_platform.evaluation import Plan, measured_texts
from sordino_platform.evaluation.lines import MeasuredPosition
from sordino_platform.evaluation.loss import Mix, Scores, spans
from sordino_platform.evaluation.memory import RepositoryMemory
from sordino_platform.evaluation.report import Measurement
from sordino_platform.tokenizer import END

Odds = npt.NDArray[np.float64]


def evaluate_base(
    name: str,
    projects: Mapping[str, Sequence[str]],
    *,
    plan: Plan,
    memory: bool = True,
    on_progress: Callable[[str], None] = lambda stage: None,
) -> dict[str, Any]:
    """The figures of `evaluation.evaluate` without its baselines, whose vocabulary is another.

    `projects` maps names to whole files. Raises ConfigurationError (no such base) or DataError.
    """
    base = bases.find_base(name)
    generator = served.generator(base, [], name=base.name)
    vocabulary = generator.vocabulary
    assert isinstance(vocabulary, BaseVocabulary)
    words, reader = vocabulary.base_tokenizer, BaseReader(generator)
    measurement = Measurement(words, projects, plan)
    on_progress("model")
    layers = {"model": measurement.of_reader(reader)}
    with tempfile.TemporaryDirectory() as folder:
        if memory:
            memories: dict[str, RepositoryMemory] = {}
            for number, (project, texts) in enumerate(projects.items()):
                measured = measured_texts(texts, words, plan)
                documents = {str(at): text for at, text in enumerate(texts) if text not in measured}
                memories[project] = MeasuredMemory(Path(folder) / str(number), documents, words)
            on_progress("memory")
            layers["memory"] = measurement.of_memory(memories)
            on_progress("model and memory")
            layers["both"] = measurement.of_reader(reader, memories=memories)
    about = {"base": base.name, "digest": base.digest, "precision": generator.network.precision}
    return {**layers["model"], "layers": layers, "sample": measurement.facts, "model": about}


class BaseReader:
    """`evaluation.report.MeasuredModel` of a generator: its network, token by token."""

    def __init__(self, generator: Generator) -> None:
        self._network, self._vocabulary = generator.network, generator.vocabulary
        self._first = self._vocabulary.framed((), (), whole=True)[-1]

    def score(
        self, documents: Sequence[Sequence[int]], *, overlap: float, mix: Mix | None = None
    ) -> list[Scores]:
        """See `MeasuredModel.score`."""
        found = []
        context = self._network.shape.context
        for ids in documents:
            nats, sure = np.zeros(len(ids), np.float32), np.zeros(len(ids), np.float32)
            correct = np.zeros(len(ids), np.bool_)
            for _, start, stop, scored in spans(0, len(ids), context, overlap):
                read = [ids[start - 1] if start else self._first, *ids[start : stop - 1]]
                for at, odds in zip(range(start, stop), self._odds(read), strict=True):
                    if at < scored:
                        continue
                    told = odds if mix is None else mix(ids[:at], odds)
                    best = int(told.argmax())
                    nats[at], sure[at] = -np.log(max(told[ids[at]], 1e-300)), told[best]
                    correct[at] = best == ids[at]
            found.append(Scores(nats=nats, correct=correct, confidence=sure))
        return found

    def complete(
        self, cursor: MeasuredPosition, *, max_tokens: int, memory: RepositoryMemory | None
    ) -> tuple[bytes, float]:
        """See `MeasuredModel.complete`."""
        view = None if memory is None else memory(cursor.before)
        pieces, marks = self._vocabulary.pieces, self._vocabulary.forbidden
        prompt = list(cursor.prompt)[-(self._network.shape.context - max_tokens - 1) :]
        cache = KeyValueCache(self._network.shape, len(prompt) + max_tokens)
        *_, odds = self._odds(prompt, cache)
        written: list[int] = []
        text, certainty = b"", 1.0
        while len(written) < max_tokens:
            told = odds if view is None else view.mix(odds, written)
            told = told.copy()
            told[marks] = 0
            if not text and cursor.heal:
                agreeing = self._vocabulary.agreeing(cursor.heal)
                agreeing = agreeing[[pieces[token].startswith(cursor.heal) for token in agreeing.tolist()]]
                restricted = np.zeros_like(told)
                restricted[agreeing] = told[agreeing]
                told = restricted
            told /= max(told.sum(), 1e-300)
            token = int(told.argmax())
            if token == END:
                break
            written.append(token)
            text, certainty = text + pieces[token], certainty * float(told[token])
            if b"\n" in text:
                break
            *_, odds = self._odds([token], cache)
        return text, certainty

    def _odds(self, tokens: Sequence[int], cache: KeyValueCache | None = None) -> Iterator[Odds]:
        """The next token's odds behind each of `tokens`, `(vocabulary,)` each."""
        cache = cache or KeyValueCache(self._network.shape, len(tokens))
        for start in range(0, len(tokens), CHUNK):
            part = np.array(tokens[start : start + CHUNK], np.int64)
            at, every = cache.length, np.arange(len(part))
            logits = self._network.read(cache, part, at + every, causal(at, len(part)), every)
            for row in logits.astype(np.float64):
                shifted = np.exp(row - row.max())
                yield shifted / shifted.sum()
