"""Tokens on disk, and the endless, exactly resumable stream of training windows over them.

The public corpus is encoded once into one `uint16` file (`uint32` for a vocabulary that needs it), which is mapped and
never read whole; documents end with `<|end|>`, or with what ends a text of another base. The order of an epoch's
windows and every fill-in-the-middle cut follow from `(seed, position)` alone, so a resumed run sees exactly what the
uninterrupted run would have seen.

Half of the windows are rewritten to fill in the middle, in the order suffix, prefix, middle (the other order does not
work at this size). The cut lies inside one document and inside one window, so the model always sees both sides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sordino_platform.tokenizer import END, MIDDLE, PREFIX, SUFFIX
from sordino_privacy.errors import DataError, StorageError

Tokens = npt.NDArray[np.unsignedinteger[Any]]
FORMAT = "sordino-shard/2"
# Kinds of documents; a shard holds each document's place in this list. `script` is TypeScript and JavaScript.
KINDS = ("java", "python", "go", "script")
# "code" are a person's own files, whatever their language. They are all of the first kind, so all of them are used.
_KIND_OF = {"java": 0, "code": 0, "python": 1, "go": 2, "javascript": 3, "typescript": 3}
# What an epoch is made of, in shares of its tokens: Java first.
MIXTURE = (0.50, 0.20, 0.15, 0.15)
VALIDATION_ONE_IN = 400
FILL_SHARE = 0.5
_BATCH = 512
_SPECIALS_PER_FILL = 3


class Reads(Protocol):
    """A tokenizer: ours, or a base's."""

    @property
    def digest(self) -> bytes:
        """Two with one digest encode every text alike."""
        ...

    @property
    def size(self) -> int:
        """How many tokens there are."""
        ...

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Encoded documents: `tokens`, where document i is `tokens[starts[i]:starts[i + 1]]` and ends with END.

    `vocabulary` is the size of the tokenizer that encoded them, `kinds` each document's place in KINDS.
    """

    vocabulary: int
    tokens: Tokens
    starts: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]

    def document(self, index: int) -> Tokens:
        return self.tokens[self.starts[index] : self.starts[index + 1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDocument:
    """One source file, as a stream of windows reads it."""

    project: str
    path: str
    language: str
    text: str


def kind_of(language: str) -> int:
    """A language's place in KINDS."""
    return _KIND_OF[language]


def is_validation(document: SourceDocument) -> bool:
    """Whether a public document is kept back to draw the validation curve: one in 400, by its name's hash."""
    name = f"{document.project}\n{document.path}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:4], "big") % VALIDATION_ONE_IN == 0


def encode_shard(
    documents: Iterable[SourceDocument],
    tokenizer: Reads,
    folder: Path,
    *,
    end: int = END,
    on_progress: Callable[[int], None] = lambda tokens: None,
) -> None:
    """Writes `tokens.bin`, `index.npz` and `shard.json` (last: its presence says that the shard is whole). `end` closes
    each document. Raises DataError when there is nothing to encode."""
    dtype = _dtype(max(tokenizer.size, end + 1))
    folder.mkdir(parents=True, exist_ok=True)
    lengths: list[int] = []
    kinds: list[int] = []
    with (folder / "tokens.bin").open("wb") as out:
        for batch in _batches(documents):
            for document, ids in zip(batch, tokenizer.encode_many([d.text for d in batch]), strict=True):
                out.write(np.array([*ids, end], dtype=dtype).tobytes())
                lengths.append(len(ids) + 1)
                kinds.append(kind_of(document.language))
            on_progress(sum(lengths))
    if not lengths:
        raise DataError("there is no document to encode", hint="run: sordino corpus fetch public")
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    np.savez(folder / "index.npz", starts=starts, kinds=np.array(kinds, dtype=np.uint8))
    about = {"format": FORMAT, "tokenizer": tokenizer.digest.hex(), "tokens": int(starts[-1])}
    (folder / "shard.json").write_text(json.dumps(about) + "\n")


def _dtype(words: int) -> str:
    return "<u2" if words <= 1 << 16 else "<u4"


def open_shard(folder: Path, tokenizer: Reads, *, end: int = END) -> Shard | None:
    """The encoded documents of `folder`, memory-mapped; None when there are none yet.

    Raises StorageError when they were encoded with another tokenizer or are cut short.
    """
    about_path = folder / "shard.json"
    if not about_path.is_file():
        return None
    about = json.loads(about_path.read_text())
    if about.get("format") != FORMAT:
        raise StorageError(
            f"{folder} was encoded by another version", hint="delete that folder and start again"
        )
    if about.get("tokenizer") != tokenizer.digest.hex():
        raise StorageError(
            f"{folder} was encoded with another tokenizer", hint="delete that folder and start again"
        )
    dtype = _dtype(max(tokenizer.size, end + 1))
    tokens: Tokens = np.memmap(folder / "tokens.bin", dtype=dtype, mode="r")
    with np.load(folder / "index.npz", allow_pickle=False) as index:
        shard = Shard(vocabulary=tokenizer.size, tokens=tokens, starts=index["starts"], kinds=index["kinds"])
    if len(tokens) != shard.starts[-1]:
        raise StorageError(f"{folder} is cut short", hint="delete that folder and start again")
    return shard


def _batches(documents: Iterable[SourceDocument]) -> Iterator[list[SourceDocument]]:
    batch: list[SourceDocument] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(slots=True, kw_only=True)
class Position:
    """Where a run stands in its stream: what a checkpoint stores to resume exactly."""

    epoch: int = 0
    window: int = 0  # how many windows of this epoch are used up


class WindowStream:
    """Draws batches of windows of `context + 1` tokens from a shard.

    An epoch packs its documents in random order, cuts the packed tokens into windows and walks those in a second
    random order: without it a batch would be one long file, and the loss would swing with it.
    """

    def __init__(
        self,
        shard: Shard,
        context: int,
        seed: int,
        position: Position,
        mixture: tuple[float, ...] = MIXTURE,
        *,
        fill_share: float = FILL_SHARE,
    ) -> None:
        """`fill_share` of the windows fill in the middle: nothing but our own base reads our own marks."""
        self.shard, self.context, self.seed, self.position = shard, context, seed, position
        self.mixture, self.fill_share = mixture, fill_share
        self._start_epoch()

    def batch(self, windows: int) -> npt.NDArray[np.int64]:
        """The next windows, int64, shape `(windows, context + 1)`."""
        return np.stack([self._window() for _ in range(windows)]).astype(np.int64)

    def _start_epoch(self) -> None:
        """All documents of the kind with the largest share and, of each other, a fresh random part of its share.

        A kind with too little for its share is taken whole; one that the shard lacks adds nothing.
        """
        draw = np.random.default_rng([self.seed, 0, self.position.epoch])
        lengths = np.diff(self.shard.starts)
        held = np.bincount(self.shard.kinds, weights=lengths, minlength=len(KINDS))
        shares = np.where(held > 0, self.mixture, 0)
        first = int(np.argmax(shares))
        wanted = shares * (held[first] / max(shares[first], 1e-9))
        kept = np.minimum(1.0, wanted / np.maximum(held, 1))
        chosen = np.flatnonzero(draw.random(len(lengths)) < kept[self.shard.kinds])
        self.documents = draw.permutation(chosen)
        self._packed = np.concatenate(([0], np.cumsum(lengths[self.documents])))
        count = (int(self._packed[-1]) - 1) // self.context
        if count < 1:
            raise DataError("the corpus is smaller than one window", hint="fetch more of it")
        self._windows = draw.permutation(count)

    def _window(self) -> Tokens:
        if self.position.window == len(self._windows):
            self.position.epoch, self.position.window = self.position.epoch + 1, 0
            self._start_epoch()
        number = int(self._windows[self.position.window])
        draw = np.random.default_rng([self.seed, 1, self.position.epoch, number])
        self.position.window += 1
        if draw.random() >= self.fill_share:
            return self._cut(number * self.context, self.context + 1)
        return fill(self._cut(number * self.context, self.context + 1 - _SPECIALS_PER_FILL), draw)

    def _cut(self, start: int, count: int) -> Tokens:
        """`count` tokens of the epoch's packed documents from `start` on."""
        rank = int(np.searchsorted(self._packed, start, side="right")) - 1
        parts = []
        while count:
            begin = start - int(self._packed[rank])
            part = self.shard.document(int(self.documents[rank]))[begin : begin + count]
            parts.append(part)
            start, count, rank = start + len(part), count - len(part), rank + 1
        return np.concatenate(parts)


def fill(window: Tokens, draw: np.random.Generator) -> Tokens:
    """Rewrites the longest document part of a window as suffix, prefix, middle, END: three tokens more.

    The middle is what completion asks for: the rest of a line or a few lines more often than half a file. A document's
    own END closes its middle; one that the window cuts loses its last token to that END.
    """
    ends = np.flatnonzero(window == END)
    bounds = np.concatenate(([-1], ends, [len(window)]))
    longest = int(np.argmax(np.diff(bounds)))
    start, stop = int(bounds[longest]) + 1, int(bounds[longest + 1])
    whole = stop < len(window)
    part = window[start : stop if whole else stop - 1]
    first = int(draw.integers(0, len(part) + 1))
    kind = draw.random()
    if kind < 0.8:
        length = int(draw.geometric(1 / 12)) if kind < 0.5 else int(draw.geometric(1 / 48))
        last = min(first + length, len(part))
    else:
        first, last = sorted((first, int(draw.integers(0, len(part) + 1))))
    rewritten = ([SUFFIX], part[last:], [PREFIX], part[:first], [MIDDLE], part[first:last])
    end = window[stop:] if whole else [END]
    parts = (window[:start], *(np.asarray(p, dtype=np.uint16) for p in (*rewritten, end)))
    return np.concatenate(parts)
