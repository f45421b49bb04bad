"""Tokens as bytes: what token healing needs to know about a vocabulary.

A prompt may end in the middle of a token ("retu"), which no training text ever did. Healing takes the unfinished
piece back from the prompt and lets the model write it again, restricted to tokens that agree with the bytes that
are already typed (Lundberg 2023, "the art of prompt design").
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sordino_client.completion.text.utf8 import Continuations
from sordino_platform.tokenizer import END, MIDDLE, PREFIX, SPECIALS, SUFFIX

# The last piece of a text as the tokenizer would cut it (tokenizer.PIECES, with Python's character classes).
LAST_PIECE = re.compile(
    r"(?:\n[ \t]*|[^\s\w]?[A-Z]?[a-z]+| ?[A-Z]?[a-z]+| ?[A-Z]+| ?[^\W\d_]+|\d{1,3}| ?(?:[^\s\w]|_)+|[^\S\n]+)\Z"
)
CONTINUATION = 0x80  # the two highest bits of a byte that is not its character's first
MAX_CACHED_LINES = 20_000


class EngineTokenizer(Protocol):
    """A tokenizer as the engine needs it: ours, or that of a base. The end of a document is END in its numbers."""

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

    def token_bytes(self) -> list[bytes]:
        """The bytes of every token; empty for those that are no text."""
        ...


class Vocabulary:
    """The bytes of every token, ordered for prefix search, a line-wise encoder, and how a prompt is put together.

    A newline always starts a piece, so text may be encoded line by line: the keystroke that changes one line
    costs one line. `forbidden`: tokens that no text holds, the end of a document aside.
    """

    # How many tokens a prompt with text behind the cursor needs to mark its parts.
    overhead = 3
    # The text behind the cursor gets one part in this many of the room; 0: the model has no way to read it.
    suffix_share = 4
    healed_bytes = 24

    def __init__(self, tokenizer: EngineTokenizer) -> None:
        self.tokenizer = tokenizer
        self.pieces = tokenizer.token_bytes()
        ordered = sorted((piece, number) for number, piece in enumerate(self.pieces) if piece)
        self._sorted = [piece for piece, _ in ordered]
        self._numbers = np.array([number for _, number in ordered], np.int64)
        self._exact = dict(ordered)
        self.continuations = Continuations(self.pieces, end=END)
        self.forbidden: npt.NDArray[np.int64] = np.arange(END + 1, len(SPECIALS))
        # Those of `forbidden` that end a text as END does.
        self.stops: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._lines: dict[str, list[int]] = {}

    def agreeing(self, typed: bytes) -> npt.NDArray[np.int64]:
        """All tokens that may come next, `(n,)`: those that begin with `typed`, and those that `typed` begins with."""
        low = bisect.bisect_left(self._sorted, typed)
        high = bisect.bisect_left(self._sorted, typed + b"\xff" * 32, low)
        shorter = [self._exact[typed[:n]] for n in range(1, len(typed)) if typed[:n] in self._exact]
        return np.concatenate((self._numbers[low:high], np.array(shorter, np.int64)))

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """The tokens of each line; every line but the first begins with its newline."""
        fresh = list({line for line in lines if line not in self._lines})
        if fresh:
            if len(self._lines) + len(fresh) > MAX_CACHED_LINES:
                self._lines.clear()
                fresh = list(dict.fromkeys(lines))
            self._lines.update(zip(fresh, self.tokenizer.encode_many(fresh), strict=True))
        return [self._lines[line] for line in lines]

    def framed(self, window: Sequence[int], behind: Sequence[int], *, whole: bool) -> list[int]:
        """A prompt for what follows `window`, where `behind` comes after it. `whole`: a document begins there."""
        if behind:
            return [SUFFIX, *behind, PREFIX, *window, MIDDLE]
        # As in training, the end of the document before marks a document's beginning.
        return [END, *window] if whole or not window else list(window)

    def heal(self, tokens: Sequence[int], text: str) -> tuple[list[int], bytes]:
        """`tokens` of a text without its unfinished last piece, and the bytes of that piece."""
        match = LAST_PIECE.search(text[-self.healed_bytes :])
        unfinished = len(match.group().encode()) if match else 0
        kept, typed = list(tokens), b""
        while kept and len(typed) < unfinished:
            piece = self.pieces[kept[-1]]
            if len(typed) + len(piece) > self.healed_bytes:
                break
            typed = piece + typed
            kept.pop()
        while kept and typed and typed[0] & 0xC0 == CONTINUATION:  # never within a character
            typed = self.pieces[kept.pop()] + typed
        return kept, typed


def split_lines(text: str) -> list[str]:
    """`text` cut before every newline; the parts join to the text."""
    first, *rest = text.split("\n")
    return [first, *("\n" + line for line in rest)]
