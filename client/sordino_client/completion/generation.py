"""From a query to completions: takes an editor's text, reads the prompt, gives back an editor's text.

Alternatives are branches that share the prompt's rows of the cache; writing.py writes them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sordino_client.completion import prompt as prompts
from sordino_client.completion.cache import KeyValueCache, Network, causal
from sordino_client.completion.query import MAX_TOKENS, Answer, Cancelled, OnText, Query, Recall, nothing
from sordino_client.completion.text.place import Place
from sordino_client.completion.vocabulary import Vocabulary
from sordino_client.completion.writing import Slot, Writing
from sordino_privacy.counts import SharedMemory

# A prompt is read in pieces: the scratch memory stays small, and a cancelled request ends within one of them.
CHUNK = 128
RESERVE = 64
# The prompts of several files stay in caches, within this much memory.
SLOTS = 3
SLOT_BYTES = 32 << 20


class Generator:
    """One loaded model. Not thread-safe: the engine's worker is its only caller."""

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        *,
        name: str,
        slot_bytes: int = SLOT_BYTES,
        shared: SharedMemory | None = None,
    ) -> None:
        """`shared` is the federation's memory that came with the model."""
        self.network = network
        self.shared = shared
        self.vocabulary = vocabulary
        self.name = name
        self.context = network.shape.context
        self.slots = max(1, min(SLOTS, slot_bytes // (network.shape.row_bytes * self.context)))
        self._slots: list[Slot] = []
        self._clock = 0

    def answer(
        self,
        query: Query,
        *,
        recall: Callable[[prompts.Prompt], Recall | None] | None = None,
        on_text: OnText | None = None,
        cancelled: threading.Event | None = None,
    ) -> Answer:
        """Completes. `on_text(alternative, text, tokens)` is given text as soon as it is certain to stay.

        Raises Cancelled between two reads once `cancelled` is set.
        """
        started = time.perf_counter()
        check = cancelled or threading.Event()
        place = Place.of(query.prefix, query.suffix)
        if place.inside is not None:
            return nothing(self.name, silence=place.inside)
        limit = min(query.max_tokens, MAX_TOKENS, self.context // 2)
        prompt = prompts.build(
            self.vocabulary,
            place.prefix,
            place.suffix,
            budget=self.context - max(limit, min(RESERVE, self.context // 4)),
            openings=[slot.opening for slot in self._slots],
            heal=query.heal,
            context=query.context,
        )
        slot, reused = self._slot(prompt)
        logits = self._read_prompt(slot, prompt.tokens, check)
        first_token = time.perf_counter() - started
        memory = recall(prompt) if recall is not None else None
        run = Writing(
            self.network, self.vocabulary, query, place, prompt, slot, memory, limit, check, on_text
        )
        try:
            completions = run.write(logits)
        finally:
            slot.cache.truncate(self.context)
            slot.cache.resize(self.context)
            slot.tokens = slot.tokens[: slot.cache.length]
        return Answer(
            completions=completions,
            model=self.name,
            prompt_tokens=len(prompt.tokens),
            reused_tokens=reused,
            generated_tokens=run.generated,
            healed_tokens=run.healed,
            drafted_tokens=run.drafted,
            first_token_seconds=first_token,
            seconds=time.perf_counter() - started,
        )

    def warm(self, query: Query, cancelled: threading.Event | None = None) -> int:
        """Reads a query's prompt without writing anything; returns its tokens. The next query begins warm."""
        place = Place.of(query.prefix, query.suffix)
        prompt = prompts.build(
            self.vocabulary,
            place.prefix,
            place.suffix,
            budget=self.context - min(RESERVE, self.context // 4),
            openings=[slot.opening for slot in self._slots],
        )
        slot, _ = self._slot(prompt)
        self._read_prompt(slot, prompt.tokens, cancelled or threading.Event())
        return len(prompt.tokens)

    def _slot(self, prompt: prompts.Prompt) -> tuple[Slot, int]:
        """The cache that shares the longest beginning with the prompt, cut to it; or the one unused for longest."""
        self._clock += 1
        best = max(self._slots, key=lambda slot: _common(slot.tokens, prompt.tokens), default=None)
        shared = _common(best.tokens, prompt.tokens) if best else 0
        if best is None or (shared < min(16, len(prompt.tokens) // 2) and len(self._slots) < self.slots):
            best, shared = Slot(KeyValueCache(self.network.shape, self.context)), 0
            self._slots.append(best)
        elif shared < min(16, len(prompt.tokens) // 2):
            best, shared = min(self._slots, key=lambda slot: slot.used), 0
        # At least one token is read anew: its logits are needed.
        shared = min(shared, len(prompt.tokens) - 1)
        best.cache.truncate(shared)
        best.tokens = best.tokens[:shared]
        best.opening, best.used = prompt.opening, self._clock
        return best, shared

    def _read_prompt(
        self, slot: Slot, tokens: Sequence[int], check: threading.Event
    ) -> npt.NDArray[np.float32]:
        logits = np.empty((0, 0), np.float32)
        while slot.cache.length < len(tokens):
            if check.is_set():
                raise Cancelled
            start = slot.cache.length
            part = np.array(tokens[start : start + CHUNK], np.int64)
            stop = start + len(part)
            logits = self.network.read(
                slot.cache, part, np.arange(start, stop), causal(start, len(part)), np.array([len(part) - 1])
            )
            slot.tokens.extend(part.tolist())
        return logits


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common beginning."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
