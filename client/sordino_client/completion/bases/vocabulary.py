"""A base's tokenizer as the engine's vocabulary: the bytes of its tokens, its marks, and text encoded in stretches.

In many tokenizers a token may reach over the end of a line, so lines cannot be encoded one by one as ours are. Text is
encoded in stretches of some lines. Where a stretch is cut follows from the content, so that a key changes only one of
them, and it is cut only between characters that this tokenizer never joins. A token belongs to the line in which it
ends.

The end of a document is token 0 in the engine; where it is another of the base's, the two change places here (and the
rows of its matrices do in weights.py).
"""

from __future__ import annotations

import bisect
import json
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import tokenizers

from sordino_client.completion.vocabulary import MAX_CACHED_LINES, Vocabulary
from sordino_platform.bases import FillInTheMiddle
from sordino_platform.huggingface import HuggingFaceTokenizer
from sordino_platform.tokenizer import END, bytes_of
from sordino_privacy.errors import ConfigurationError

LEAST_LINES, MOST_LINES = 8, 64
# One line in this many may begin a stretch, by its own content.
CUT_EVERY = 8
# If the suffix follows the prefix, it is read again with each key; so it gets this share of the room at most.
FOLLOWING_SHARE: Final = 16
_SAMPLE = "def add(left, right):\n    return left + right\n\n\n\tx = {'a': \"é\"}\n"


@dataclass(frozen=True, slots=True)
class BaseTokenizer:
    """`Tokenizer` of a base, in the engine's numbers. `size` is the model's, which may be padded."""

    _inner: tokenizers.Tokenizer = field(repr=False)
    _byte_level: bool
    digest: bytes
    size: int
    end: int

    @classmethod
    def load(cls, folder: Path, *, size: int, end: int) -> BaseTokenizer:
        """Raises ConfigurationError for a tokenizer that does not give a text's own bytes back."""
        known = HuggingFaceTokenizer.load(folder)
        inner = known.inner
        document = json.loads(inner.to_str())
        level = '"ByteLevel"' in json.dumps([document.get("pre_tokenizer"), document.get("decoder")])
        made = cls(inner, level, known.digest, size, end)
        if known.size > size or not 0 <= end < size:
            raise ConfigurationError(f"{folder} has a tokenizer of more words than its model")
        pieces = made.token_bytes()
        (ids,) = made.encode_many([_SAMPLE])
        if b"".join(pieces[token] for token in ids) != _SAMPLE.encode():
            raise ConfigurationError(
                f"{folder} has a tokenizer that changes the text it is given, which completions cannot bear"
            )
        return made

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of plain texts; a text that spells a mark is plain text."""
        found = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self.exchanged(one.ids) for one in found]

    def encode(self, text: str) -> list[int]:
        """The tokens of one text."""
        return self.encode_many([text])[0]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; marks are left out."""
        return str(self._inner.decode(self.exchanged(ids), skip_special_tokens=True))

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """The tokens, and behind which character of `text` each ends."""
        found = self._inner.encode(text, add_special_tokens=False)
        return self.exchanged(found.ids), [end for _, end in found.offsets]

    def exchanged(self, ids: Sequence[int]) -> list[int]:
        """Between the base's numbers and the engine's; its own inverse."""
        if self.end == END:
            return list(ids)
        return [END if one == self.end else self.end if one == END else one for one in ids]

    def token_bytes(self) -> list[bytes]:
        """The bytes of every token; empty for marks and for padding."""
        marks = self._inner.get_added_tokens_decoder()
        pieces: list[bytes] = []
        for number in range(self.size):
            text = self._inner.id_to_token(number)
            if text is None or number == self.end or (number in marks and marks[number].special):
                pieces.append(b"")
            elif number in marks:
                pieces.append(text.encode())
            elif self._byte_level:
                pieces.append(bytes_of(text))
            elif len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
                pieces.append(bytes([int(text[3:5], 16)]))
            else:
                pieces.append(text.replace("▁", " ").encode())
        if self.end != END:
            pieces[END], pieces[self.end] = pieces[self.end], pieces[END]
        return pieces


class BaseVocabulary(Vocabulary):
    """See `Vocabulary`. `begin`: the token that every text begins with, in the base's own numbers, or None."""

    healed_bytes = 64

    def __init__(
        self, tokenizer: BaseTokenizer, *, begin: int | None, middle: FillInTheMiddle | None
    ) -> None:
        super().__init__(tokenizer)
        self.base_tokenizer = tokenizer
        self.forbidden = np.array([n for n, piece in enumerate(self.pieces) if not piece and n != END])
        self._begin = [] if begin is None else tokenizer.exchanged([begin])
        self._middle: FillInTheMiddle | None = None
        if middle is not None:
            prefix, suffix = tokenizer.exchanged([middle.prefix, middle.suffix])
            inside = None if middle.middle is None else tokenizer.exchanged([middle.middle])[0]
            stops = tokenizer.exchanged(sorted(middle.stops))
            self.stops = np.array([token for token in stops if token != END], np.int64)
            self._middle = replace(
                middle, prefix=prefix, suffix=suffix, middle=inside, stops=frozenset(stops)
            )
        self.overhead = len(self._begin) + (self._middle.overhead if self._middle else 1)
        self.suffix_share = 0
        if self._middle is not None:
            self.suffix_share = Vocabulary.suffix_share if inside is None else FOLLOWING_SHARE
        self._stretches: dict[str, list[list[int]]] = {}
        self._ends = {mark for mark in string.printable.strip() if self._parts(mark)}

    def framed(self, window: Sequence[int], behind: Sequence[int], *, whole: bool) -> list[int]:
        """See `Vocabulary.framed`."""
        if behind and self._middle is not None:
            return [*self._begin, *self._middle.prompt(window, behind)]
        if self._begin:
            return [*self._begin, *window]
        return super().framed(window, (), whole=whole)

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """See `Vocabulary.encode_lines`; a token that reaches over the end of a line belongs to the next."""
        found: list[list[int]] = []
        start = 0
        for at in range(1, len(lines) + 1):
            if at == len(lines) or self._cut(lines, start, at):
                found += self._stretch(lines[start:at])
                start = at
        return found

    def _cut(self, lines: Sequence[str], start: int, at: int) -> bool:
        if at - start >= MOST_LINES:
            return True
        above = lines[at - 1][-1:]
        wanted = at - start >= LEAST_LINES and above in self._ends
        return wanted and zlib.crc32(lines[at].encode(errors="replace")) % CUT_EVERY == 0

    def _stretch(self, lines: Sequence[str]) -> list[list[int]]:
        text = "".join(lines)
        known = self._stretches.get(text)
        if known is None:
            if len(self._stretches) * LEAST_LINES > MAX_CACHED_LINES:
                self._stretches.clear()
            ids, ends = self.base_tokenizer.encode_with_ends(text)
            starts = np.cumsum([0, *(len(line) for line in lines)]).tolist()
            known = [[] for _ in lines]
            for token, end in zip(ids, ends, strict=True):
                known[max(bisect.bisect_left(starts, max(end, 1)) - 1, 0)].append(token)
            self._stretches[text] = known
        return known

    def _parts(self, mark: str) -> bool:
        """Whether no token joins this character with a line break behind it."""
        _, ends = self.base_tokenizer.encode_with_ends(f"x{mark}\n    y")
        return 2 in ends
