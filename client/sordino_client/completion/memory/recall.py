"""One query's view of the memory: the mixture with the model, and drafts.

The weight of the memory depends on what its match is like: how many tokens agree, how often that context was seen,
and how sure its followers are: one weight for each such class (weights.py).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from sordino_client.completion.memory.alone import MemoryAlone
from sordino_client.completion.memory.index import MAX_MATCH, Match, Tokens, pad, scan
from sordino_client.completion.memory.store import OpenSegment, Store
from sordino_client.completion.memory.weights import WEIGHTS, evidence_class
from sordino_client.completion.prompt import Prompt
from sordino_client.completion.query import Probabilities, Recall
from sordino_client.completion.vocabulary import Vocabulary
from sordino_platform.tokenizer import END, Tokenizer

MIN_MATCH = 2
DRAFT_MATCH = 4
DRAFT_SHARE = 0.5
KEPT_BEFORE = 20_000


class LocalRecall:
    """`generation.Recall` over the open file and the indexed repositories."""

    def __init__(self, segments: Sequence[OpenSegment], prompt: Prompt) -> None:
        self._segments = segments
        self._before = prompt.before[-KEPT_BEFORE:]
        # The cursor is the stream's end: a match there would be the context with itself.
        self._live = pad([prompt.after, self._before])[0][:-1]
        self._last: tuple[tuple[int, ...], list[tuple[Tokens, Match]]] | None = None

    def mix(self, probabilities: Probabilities, written: Sequence[int]) -> Probabilities:
        """See `generation.Recall.mix`."""
        found = self._find(written)
        if not found:
            return probabilities
        followers = np.concatenate([tokens[match.positions] for tokens, match in found])
        counts = np.bincount(followers, minlength=len(probabilities))[: len(probabilities)].astype(np.float64)
        counts[END] = 0  # where a file ended says nothing about where the cursor's line ends
        total = counts.sum()
        if not total:
            return probabilities
        recalled = counts / total
        weight = WEIGHTS[evidence_class(found[0][1].order, int(total), float(recalled.max()))]
        mixed: Probabilities = (1 - weight) * probabilities + weight * recalled
        return mixed

    def draft(self, written: Sequence[int], count: int) -> list[int]:
        """See `generation.Recall.draft`."""
        found = self._find(written)
        if not found or found[0][1].order < DRAFT_MATCH:
            return []
        tokens, match = found[0]
        followers = tokens[match.positions]
        likeliest = int(np.bincount(followers).argmax())
        agreeing = match.positions[followers == likeliest]
        if len(agreeing) < DRAFT_SHARE * len(followers):
            return []
        # The last place is the nearest to the cursor in the open file, and as good as any elsewhere.
        start = int(agreeing.max())
        draft: list[int] = tokens[start : start + count].tolist()
        return draft[: draft.index(END)] if END in draft else draft

    def _find(self, written: Sequence[int]) -> list[tuple[Tokens, Match]]:
        """The streams that hold a longest match; all matches have one order."""
        context = [*self._before[-MAX_MATCH:], *written][-MAX_MATCH:]
        key = tuple(context)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        found: list[tuple[Tokens, Match]] = [(self._live, scan(self._live, context, at_least=MIN_MATCH))]
        for segment in self._segments:
            found.append((segment.index.tokens, segment.longest(context, at_least=MIN_MATCH)))
        best = max(match.order for _, match in found)
        longest = [(tokens, match) for tokens, match in found if match.order == best and best]
        self._last = (key, longest)
        return longest


class Memory:
    """The serving side: reopens the segments when they were rebuilt. `alone` leaves the model out, to measure."""

    def __init__(self, store: Store, *, alone: bool = False) -> None:
        self._store, self._alone = store, alone
        self._lock = threading.Lock()
        self._opened: tuple[int, bytes, list[OpenSegment]] = (0, b"", [])

    def __call__(self, prompt: Prompt, vocabulary: Vocabulary) -> Recall:
        """The memory's view for one prompt."""
        recall = LocalRecall(self.segments(vocabulary.tokenizer), prompt)
        return MemoryAlone(recall) if self._alone else recall

    def segments(self, tokenizer: Tokenizer) -> list[OpenSegment]:
        """What is indexed now; one `stat` while nothing changed."""
        stamp = self._store.stamp()
        with self._lock:
            if (stamp, tokenizer.digest) != self._opened[:2]:
                self._opened = (stamp, tokenizer.digest, self._store.read(tokenizer) if stamp else [])
            return self._opened[2]
