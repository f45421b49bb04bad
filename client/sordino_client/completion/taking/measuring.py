"""Measures how well each way of serving predicts the member's held-out files, with its own memory on.

The networks are those that serve, one at a time, in this process's own memory. Files that are held out of training are
hidden from the local memory while it is asked (the memory that serves contains them, as it should). A file is read from
its beginning, because the beginning is the hardest to predict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sordino_client.completion.bases import served
from sordino_client.completion.cache import KeyValueCache, Network, causal
from sordino_client.completion.loading import load_release
from sordino_client.completion.memory.recall import LocalRecall
from sordino_client.completion.memory.store import OpenSegment, Store
from sordino_client.completion.prompt import Prompt
from sordino_client.completion.taking.choice import EVERYTHING, SHARES, Taking, candidates
from sordino_client.completion.vocabulary import EngineTokenizer, Vocabulary
from sordino_platform.release.bundle import BEGINS
from sordino_platform.tokenizer import END
from sordino_privacy.counts import SharedMemory

FILE_TOKENS = 512
# Tokens for the shipped model; on a larger base each takes a hundred times as long.
MOST_TOKENS, MOST_TOKENS_OF_A_BASE = 3_000, 800
ENDS = (0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFile:
    """The beginning of one held-out file: its tokens, its bytes, and the memory's view from before each token."""

    ids: tuple[int, ...] = field(repr=False)
    size: int
    views: tuple[LocalRecall, ...] = field(repr=False)


def halves(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the files that choose, the files that only measure the result): every other one, in the order of their
    hashes."""
    order = sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).digest())
    return order[::2], order[1::2]


@dataclass(slots=True)
class Ways:
    """The ways to be served from the completion folder `state`. `own`: whether there are own adapters."""

    state: Path
    folder: Path
    own: bool
    vocabulary: Vocabulary
    shared: SharedMemory | None

    @classmethod
    def of(cls, state: Path, folder: Path, *, own: bool) -> Ways:
        """The ways for the release in `folder`, which is loaded once to find them. Raises SordinoError."""
        generator = load_release(folder, state=state, taking=EVERYTHING)
        return cls(state, folder, own, generator.vocabulary, generator.shared)

    def all(self) -> list[Taking]:
        """The ways that can be tried here."""
        if served.of_base(self.folder):
            shares: Sequence[float] = ENDS
        else:
            shares = SHARES if (self.state / BEGINS).is_dir() else (1.0,)
        return candidates(shares=shares, own=self.own, shared_memory=self.shared is not None)

    def files(self, texts: Sequence[str], segments: Sequence[OpenSegment]) -> list[MeasuredFile]:
        """The beginnings of these texts, up to the number of tokens that may be read in all."""
        tokenizer: EngineTokenizer = self.vocabulary.tokenizer
        most = MOST_TOKENS_OF_A_BASE if served.of_base(self.folder) else MOST_TOKENS
        found: list[MeasuredFile] = []
        for text in texts:
            (ids,) = tokenizer.encode_many([text])
            ids = ids[: min(FILE_TOKENS, most - sum(len(one.ids) for one in found))]
            if len(ids) < 2:
                continue
            views = tuple(
                LocalRecall(segments, _behind(ids[:at]), vocabulary=tokenizer.size) for at in range(len(ids))
            )
            size = sum(len(self.vocabulary.pieces[token]) for token in ids)
            found.append(MeasuredFile(ids=tuple(ids), size=max(1, size), views=views))
        return found

    def bits(self, tried: Sequence[Taking], files: Sequence[MeasuredFile]) -> dict[Taking, float]:
        """Bits per byte of each, in the order of `tried`. Each model is loaded once. Raises SordinoError."""
        found: dict[Taking, float] = {}
        size = sum(one.size for one in files)
        for share, own in dict.fromkeys((one.share, one.own) for one in tried):
            ways = [one for one in tried if (one.share, one.own) == (share, own)]
            network = load_release(self.folder, state=self.state, taking=ways[-1]).network
            totals = _totals(
                network, files, {one: self.shared if one.shared_memory else None for one in ways}
            )
            found |= {one: total / size for one, total in totals.items()}
        return {one: found[one] for one in tried}


def opened(state: Path, tokenizer: EngineTokenizer, *, without: Sequence[str]) -> list[OpenSegment]:
    """The local memory as it is now, without these texts."""
    return Store(state / "memory").read(tokenizer, without=without)


def _behind(before: Sequence[int]) -> Prompt:
    return Prompt(tokens=[], typed=b"", healed=0, opening=(), before=list(before), after=[])


def _totals(
    network: Network, files: Sequence[MeasuredFile], memories: Mapping[Taking, SharedMemory | None]
) -> dict[Taking, float]:
    """The bits of all files under each way; each file is read once for all ways."""
    totals = dict.fromkeys(memories, 0.0)
    for file in files:
        # The context bounds what one reading sees.
        ids = np.array([END, *file.ids[:-1]], np.int64)[: network.shape.context]
        every = np.arange(len(ids))
        logits = network.read(
            KeyValueCache(network.shape, len(ids)), ids, every, causal(0, len(ids)), every
        ).astype(np.float64)
        for at, (row, view) in enumerate(zip(logits, file.views, strict=False)):
            odds = np.exp(row - row.max())
            odds /= odds.sum()
            for way, shared in memories.items():
                mixed = (view if shared is None else view.with_shared(shared)).mix(odds, ())
                totals[way] -= float(np.log2(max(mixed[file.ids[at]], 1e-12)))
    return totals
