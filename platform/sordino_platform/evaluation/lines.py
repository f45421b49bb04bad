"""The rest-of-line task: a cursor somewhere inside a line of a held-out file, and the text to its right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

MAX_REST = 100
MIN_REST = 3


class Words(Protocol):
    """A vocabulary as an evaluation needs it: ours, or a base's. END closes a document in its token numbers."""

    @property
    def size(self) -> int:
        """How many tokens there are."""
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of plain text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these tokens."""
        ...

    def token_bytes(self) -> list[bytes]:
        """The bytes of every token; empty for tokens that are not text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPosition:
    """One position: the text before it, the bytes removed from its end (see greedy.py), and the true text after it.

    `before` holds all tokens of the file up to here; `prompt` is the part of them that a model reads.
    """

    file: int
    prompt: tuple[int, ...]
    before: tuple[int, ...]
    heal: bytes
    truth: str


def cursors(
    texts: Sequence[str], tokenizer: Words, *, count: int, prompt_tokens: int, pieces: Sequence[bytes]
) -> list[MeasuredPosition]:
    """At most `count` cursors, spread over the files, at least `prompt_tokens` tokens into each.

    A file's lines and columns are drawn from its own hash, so a file has the same cursors in every list of files.
    """
    each = [_cursors_of(number, text, tokenizer, prompt_tokens, pieces) for number, text in enumerate(texts)]
    return [c for c, _ in zip(_take_turns(each), range(count), strict=False)]


def rest_of_line(written: bytes, heal: bytes) -> str:
    """The text that a completion puts to the right of the cursor, up to the end of the line."""
    return written[len(heal) :].split(b"\n", 1)[0].decode(errors="replace").rstrip()


def _cursors_of(
    number: int, text: str, tokenizer: Words, prompt_tokens: int, pieces: Sequence[bytes]
) -> Iterator[MeasuredPosition]:
    draw = np.random.default_rng(list(hashlib.sha256(text.encode()).digest()[:8]))
    lines = text.split("\n")
    starts = np.concatenate(([0], np.cumsum([len(line) + 1 for line in lines])))
    for index in draw.permutation(len(lines)):
        line = lines[int(index)].rstrip()
        indent = len(line) - len(line.lstrip())
        if len(line) < indent + 1 + MIN_REST:
            continue
        column = int(draw.integers(indent + 1, len(line) - MIN_REST + 1))
        truth = line[column:].rstrip()
        before = tokenizer.encode(text[: int(starts[index]) + column])
        if len(before) <= prompt_tokens or not MIN_REST <= len(truth) <= MAX_REST:
            continue
        yield MeasuredPosition(
            file=number,
            prompt=tuple(before[-prompt_tokens - 1 : -1]),
            before=tuple(before[:-1]),
            heal=pieces[before[-1]],
            truth=truth,
        )


def _take_turns(each: Iterable[Iterator[MeasuredPosition]]) -> Iterator[MeasuredPosition]:
    """One cursor of each file in turn, until no file has any left."""
    waiting = list(each)
    while waiting:
        left = []
        for source in waiting:
            cursor = next(source, None)
            if cursor is not None:
                yield cursor
                left.append(source)
        waiting = left
