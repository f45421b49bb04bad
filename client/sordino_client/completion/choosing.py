"""Chooses the next token: by the probabilities of model and memory, among the tokens that may stand here.

A token may stand here if it continues the text as valid UTF-8 (text/utf8.py) and agrees with the characters that the
developer typed but the prompt left out (token healing).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sordino_client.completion.query import Probabilities, Query, Recall
from sordino_client.completion.text.utf8 import START
from sordino_client.completion.vocabulary import Vocabulary
from sordino_platform.tokenizer import END


class TokenChoice:
    """The choices of one query. Greedy at temperature 0; else sampled with the query's own seed."""

    def __init__(self, vocabulary: Vocabulary, query: Query, memory: Recall | None) -> None:
        self._vocabulary, self._memory = vocabulary, memory
        self._temperature, self._top_p = query.temperature, query.top_p
        # Only sampling pays for seeding the generator: a third of a millisecond.
        self._random = np.random.default_rng(query.seed) if query.temperature > 0 else None
        self._odds = np.empty(0, np.float32)

    def distribution(
        self, logits: npt.NDArray[np.float32], written: Sequence[int], *, missing: bytes, state: int
    ) -> Probabilities:
        """Next-token probabilities, float64, shape `(vocabulary,)`, of the model's `logits` of that shape.

        `written` are the tokens behind the prompt, `missing` the typed bytes that the next tokens must still repeat,
        and `state` the place in a UTF-8 character where they end.
        """
        # 24 bits are more than the logits themselves hold, and take a third of the time of 53.
        if len(self._odds) != len(logits):
            self._odds = np.empty(len(logits), np.float32)
        odds = self._odds
        np.exp(np.subtract(logits, logits.max(), out=odds), out=odds)
        if len(self._vocabulary.stops):
            odds[END] += odds[self._vocabulary.stops].sum()
        odds[self._vocabulary.forbidden] = 0
        probabilities: Probabilities = odds.astype(np.float64)
        if self._memory is not None:
            probabilities *= 1 / float(probabilities.sum())
            probabilities = self._memory.mix(probabilities, written)
        if not missing and state == START:  # nearly always
            probabilities[self._vocabulary.continuations.barred] = 0
            if (total := float(probabilities.sum())) > 0:
                probabilities *= 1 / total
                return probabilities
        return self._restricted(probabilities / max(float(probabilities.sum()), 1e-300), missing, state)

    def _restricted(self, probabilities: Probabilities, missing: bytes, state: int) -> Probabilities:
        allowed = self._vocabulary.continuations.allowed[state]
        if missing:
            agreeing = np.zeros_like(allowed)
            agreeing[self._vocabulary.agreeing(missing)] = True
            allowed = allowed & agreeing
        restricted: Probabilities = np.where(allowed, probabilities, 0.0)
        # The floor keeps tokens possible that must come (the rest of a character, characters that are already typed)
        # even if the model gives them no probability.
        restricted[allowed] += 1e-12
        total = restricted.sum()
        if not total:  # a vocabulary that cannot end the character it began
            restricted[END] = total = 1.0
        restricted /= total
        return restricted

    def choose(self, probabilities: Probabilities) -> int:
        """The likeliest token, or one drawn at the query's temperature among the likeliest `top_p` of all."""
        if self._random is None:
            return int(probabilities.argmax())
        scaled = np.where(probabilities > 0, probabilities, 0) ** (1 / self._temperature)
        if not np.isfinite(total := scaled.sum()) or total <= 0:
            return int(probabilities.argmax())  # so cold that everything but the best underflows
        scaled /= total
        if self._top_p < 1:
            order = np.argsort(-scaled, kind="stable")
            behind = np.cumsum(scaled[order]) - scaled[order] >= self._top_p
            scaled[order[behind]] = 0
            scaled /= scaled.sum()
        return int(self._random.choice(len(scaled), p=scaled))
