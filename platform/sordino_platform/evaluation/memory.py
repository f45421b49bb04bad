"""A local memory as a measurement sees it: a view of one file up to a position, which changes the next token's
probabilities.

The memory itself is the client's (sordino_client.completion.memory). This module has the interface that it must offer,
and the figures of a memory without a model: when it remembers nothing, every token is equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sordino_platform.evaluation.loss import Mix, Scores
from sordino_platform.tokenizer import END

Probabilities = npt.NDArray[np.float64]


class MemoryAtPlace(Protocol):
    """The memory as seen from one position in one file."""

    def mix(self, probabilities: Probabilities, written: Sequence[int]) -> Probabilities:
        """The model's next-token distribution, `(vocabulary,)`, mixed with the memory's after `written`."""
        ...


class RepositoryMemory(Protocol):
    """The memory of one repository. It must not hold the files that are measured."""

    def __call__(self, before: Sequence[int]) -> MemoryAtPlace:
        """The view from the position after these tokens of the open file."""
        ...


def mixing(memory: RepositoryMemory) -> Mix:
    """The memory as `loss.score` takes it: asked again at every token, with all of the file before it."""
    return lambda before, probabilities: memory(before).mix(probabilities, ())


def score_alone(
    memory: RepositoryMemory, documents: Sequence[Sequence[int]], *, vocabulary: int
) -> list[Scores]:
    """As `loss.score`, for the memory without a model."""
    scored = []
    for ids in documents:
        nats = np.zeros(len(ids), dtype=np.float32)
        correct, confidence = np.zeros(len(ids), dtype=np.bool_), np.zeros(len(ids), dtype=np.float32)
        for at, token in enumerate(ids):
            odds = memory(ids[:at]).mix(_ignorance(vocabulary), ())
            likeliest = int(odds.argmax())
            nats[at], correct[at], confidence[at] = -np.log(odds[token]), likeliest == token, odds[likeliest]
        scored.append(Scores(nats=nats, correct=correct, confidence=confidence))
    return scored


def complete_alone(
    memory: RepositoryMemory, before: Sequence[int], heal: bytes, pieces: Sequence[bytes], *, max_tokens: int
) -> tuple[bytes, float]:
    """As `greedy.complete`, for the memory without a model. Ends when it remembers nothing that fits."""
    view, written, text, certainty = memory(before), list[int](), b"", 1.0
    marks = [token for token, piece in enumerate(pieces) if not piece]
    for _ in range(max_tokens):
        odds = view.mix(_ignorance(len(pieces)), written)
        odds[marks] = 0.0
        if not text and heal:
            odds[[token for token, piece in enumerate(pieces) if not piece.startswith(heal)]] = 0.0
        token = int(odds.argmax())
        if odds[token] <= 1 / len(pieces) or token == END:
            break
        written.append(token)
        text, certainty = text + pieces[token], certainty * float(odds[token])
        if b"\n" in text:
            break
    return text, certainty


def _ignorance(vocabulary: int) -> Probabilities:
    return np.full(vocabulary, 1 / vocabulary)
