"""Measures the local memory: the index alone, and lines generated with and without its drafts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sordino_client.completion import bundle
from sordino_client.completion.loading import load_generator
from sordino_client.completion.memory.index import DEPTH, Index, pad, sort
from sordino_client.completion.memory.recall import LocalMemory
from sordino_client.completion.memory.store import Store
from sordino_client.completion.prompt import Prompt
from sordino_client.completion.query import Probabilities, Query, Recall
from sordino_client.laboratory.completion_benchmark.endpoint import (
    LINE_TOKENS,
    percentile,
    python_sources,
    write_random,
)

INDEXED_TOKENS = 1_000_000
LINES = 30


class _Undrafted:
    """A memory that is mixed into the prediction as usual but drafts nothing."""

    def __init__(self, memory: Recall) -> None:
        self._memory = memory

    def mix(self, probabilities: Probabilities, written: Sequence[int]) -> Probabilities:
        return self._memory.mix(probabilities, written)

    def draft(self, written: Sequence[int], count: int) -> list[int]:
        return []


def lines(size: str) -> dict[str, Any]:
    """Lines of ten tokens in files that the memory holds: how much faster they are generated with its drafts.

    The best case for drafts, since every line has been seen; `drafts_kept_share` is the share of generated tokens that
    came from a draft.
    """
    documents = python_sources()
    with tempfile.TemporaryDirectory(prefix="sordino-bench-") as folder:
        state = Path(folder)
        write_random(state, size)
        current = bundle.current(state / "serving")
        assert current is not None, "it was written a line above"
        generator = load_generator(bundle.load(current))
        store = Store(state / "memory")
        store.refresh(documents, generator.vocabulary.tokenizer)
        memory = LocalMemory(store)

        def drafting(prompt: Prompt) -> Recall:
            return memory(prompt, generator.vocabulary)

        def undrafted(prompt: Prompt) -> Recall:
            return _Undrafted(drafting(prompt))

        text = "\n".join(documents.values())
        random = np.random.default_rng(0)
        times: dict[bool, list[float]] = {True: [], False: []}
        kept = written = 0
        for at in random.integers(2000, len(text) - 400, LINES).tolist():
            start = text.rindex("\n", 0, at)
            query = Query(
                prefix=text[max(0, start - 1200) : at], max_tokens=LINE_TOKENS, multiline=True, heal=False
            )
            generator.warm(query)
            for with_drafts in (True, False):
                answer = generator.answer(query, recall=drafting if with_drafts else undrafted)
                times[with_drafts].append(1000 * answer.seconds)
                if with_drafts:
                    kept, written = kept + answer.drafted_tokens, written + answer.generated_tokens
    return {
        "line10_memory_drafts_ms": percentile(times[True], 50),
        "line10_memory_no_drafts_ms": percentile(times[False], 50),
        "drafts_kept_share": round(kept / max(written, 1), 3),
    }


def index() -> dict[str, Any]:
    """Measures the memory's index over a million tokens that repeat as often as code does."""
    random = np.random.default_rng(0)
    text = (random.zipf(1.3, INDEXED_TOKENS) % 4000 + 4).astype(np.uint16)
    pieces = [text[at : at + 200] for at in random.integers(0, INDEXED_TOKENS // 4, INDEXED_TOKENS // 201)]
    stream, _ = pad(pieces)
    started = time.perf_counter()
    indexed = Index(stream, sort(stream), vocabulary=4096)
    built = time.perf_counter() - started
    contexts = [stream[at - 32 : at].tolist() for at in random.integers(1000, len(stream), 1000)]
    started = time.perf_counter()
    for context in contexts:
        indexed.matches(context)
    query = (time.perf_counter() - started) / len(contexts)
    return {
        "memory_query_us_per_token": round(query * 1e6, 1),
        "memory_bytes_per_token": stream.itemsize + indexed.order.itemsize,
        "memory_build_tokens_per_s": int(len(stream) / built),
        "memory_match_depth": DEPTH,
    }
