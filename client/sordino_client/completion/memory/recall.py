"""One query's view of the memory: the mixture with the model (mixture.py), and drafts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from sordino_client.completion.memory import shared
from sordino_client.completion.memory.alone import MemoryAlone
from sordino_client.completion.memory.index import MAX_MATCH, Match, Tokens, pad, scan
from sordino_client.completion.memory.mixture import (
    OPEN_FILE,
    ORDERS,
    REPOSITORY,
    MatchEvidence,
    blend,
    fitted,
)
from sordino_client.completion.memory.store import OpenSegment, Store
from sordino_client.completion.prompt import Prompt
from sordino_client.completion.query import Probabilities, Recall
from sordino_client.completion.vocabulary import EngineTokenizer, Vocabulary
from sordino_platform.tokenizer import END
from sordino_privacy.counts import SharedMemory

DRAFT_MATCH = 4
DRAFT_SHARE = 0.5
KEPT_BEFORE = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The result of one look-up: evidence from the shortest context to the longest, and the streams with the longest
    match."""

    evidence: list[MatchEvidence]
    longest: list[tuple[Tokens, Match]]


class LocalRecall:
    """`query.Recall` over the open file, with what the editor sent beside it, and the indexed repositories."""

    def __init__(
        self,
        segments: Sequence[OpenSegment],
        prompt: Prompt,
        shared: SharedMemory | None = None,
        *,
        vocabulary: int = 1 << 16,
    ) -> None:
        self._segments, self._shared = segments, shared
        self._before = prompt.before[-KEPT_BEFORE:]
        # The cursor is the stream's end: a match there would be the context with itself.
        self._live = pad([*prompt.context, prompt.after, self._before], vocabulary=vocabulary)[0][:-1]
        self._last: tuple[tuple[int, ...], _Found] | None = None

    def mix(self, probabilities: Probabilities, written: Sequence[int]) -> Probabilities:
        """See `query.Recall.mix`."""
        if self._shared is not None:
            context = [*self._before[-self._shared.plan.longest :], *written]
            found = shared.evidence(self._shared, context, vocabulary=len(probabilities))
            probabilities = shared.blend(probabilities, found, shared.fitted(self._shared.plan.choice))
        return blend(probabilities, self.evidence(written), fitted())

    def with_shared(self, memory: SharedMemory) -> LocalRecall:
        """The same view with a federation's memory beside it; what was found is not looked up again."""
        other = copy(self)
        other._shared = memory
        return other

    def evidence(self, written: Sequence[int]) -> list[MatchEvidence]:
        """The evidence about the next token, in the order in which it is blended."""
        return self._find(written).evidence

    def draft(self, written: Sequence[int], count: int) -> list[int]:
        """See `query.Recall.draft`."""
        found = self._find(written).longest
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

    def _find(self, written: Sequence[int]) -> _Found:
        context = [*self._before[-MAX_MATCH:], *written][-MAX_MATCH:]
        key = tuple(context)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        live = (self._live, scan(self._live, context))
        indexed = [(segment.index.tokens, segment.matches(context)) for segment in self._segments]
        evidence = []
        for place, order in enumerate(ORDERS):
            for source, streams in ((REPOSITORY, indexed), (OPEN_FILE, [live])):
                one = _evidence(source, place, order, streams)
                evidence += [one] if one is not None else []
        ends = [(tokens, matches[-1]) for tokens, matches in (live, *indexed) if matches]
        best = max((match.order for _, match in ends), default=0)
        found = _Found(evidence=evidence, longest=[(tokens, m) for tokens, m in ends if m.order == best])
        self._last = (key, found)
        return found


def _evidence(
    source: int, place: int, order: int, streams: Sequence[tuple[Tokens, Sequence[Match]]]
) -> MatchEvidence | None:
    """The evidence of one length of context; None if the next length finds the same places."""
    longer = ORDERS[place + 1] if place + 1 < len(ORDERS) else order
    here = [(tokens, matches[order - 1]) for tokens, matches in streams if len(matches) >= order]
    if not here:
        return None
    if longer > order:
        again = sum(len(matches[longer - 1].positions) for _, matches in streams if len(matches) >= longer)
        if again == sum(len(match.positions) for _, match in here):
            return None
    followers = np.concatenate([tokens[match.positions] for tokens, match in here])
    # In the open file the last place is the nearest above the cursor.
    latest = int(followers[-1]) if source == OPEN_FILE else None
    return MatchEvidence.of(source, place, followers, latest=latest)


class LocalMemory:
    """The serving side: reopens the segments when they were rebuilt. `alone` leaves the model out, to measure."""

    def __init__(self, store: Store, *, alone: bool = False) -> None:
        self._store, self._alone = store, alone
        self._lock = threading.Lock()
        self._opened: tuple[int, bytes, list[OpenSegment]] = (0, b"", [])

    def __call__(self, prompt: Prompt, vocabulary: Vocabulary, shared: SharedMemory | None = None) -> Recall:
        """The memory's view for one prompt; `shared` is the release's."""
        recall = LocalRecall(
            self.segments(vocabulary.tokenizer), prompt, shared, vocabulary=vocabulary.tokenizer.size
        )
        return MemoryAlone(recall) if self._alone else recall

    def segments(self, tokenizer: EngineTokenizer) -> list[OpenSegment]:
        """What is indexed now; one `stat` while nothing changed."""
        stamp = self._store.stamp()
        with self._lock:
            if (stamp, tokenizer.digest) != self._opened[:2]:
                self._opened = (stamp, tokenizer.digest, self._store.read(tokenizer) if stamp else [])
            return self._opened[2]
