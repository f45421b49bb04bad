"""Byte-level BPE with fixed special tokens, and the fill-in-the-middle order that the model was trained on.

Training, serving and the agents' wire format rely on these rules:

* the special tokens have the ids 0 to 3 in every vocabulary;
* text is never parsed for specials: a source file that contains the characters `<|prefix|>` is plain text;
* a newline always starts a token, so that "stop at the end of the line" is "stop before the first such token";
* every byte string has an encoding: the 256 bytes are tokens.

    >>> tokenizer = Tokenizer.shipped()
    >>> tokenizer.decode(tokenizer.encode("int x = 1;"))
    'int x = 1;'
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from sordino_privacy.errors import ConfigurationError

END, PREFIX, SUFFIX, MIDDLE = range(4)
SPECIALS = ("<|end|>", "<|prefix|>", "<|suffix|>", "<|middle|>")
MAX_FILE_BYTES = 4 << 20

# One newline with the indentation after it | a word, split at changes of case, with one space or mark before it | up to
# three digits | marks | blanks. docs/base-benchmark.md compares it with alternatives.
PIECES = (
    r"\n[ \t]*"
    r"|[^\s\p{L}\p{N}]?\p{Lu}?\p{Ll}+| ?\p{Lu}?\p{Ll}+| ?\p{Lu}+(?!\p{Ll})| ?\p{L}+"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+"
    r"|[^\S\n]+"
)


@dataclass(frozen=True, slots=True)
class TextCodec:
    """Plain text to tokens and back, by the tokenizers library. Text that spells a special token stays plain text if
    the library's object has `encode_special_tokens` set."""

    _inner: tokenizers.Tokenizer = field(repr=False)

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; never a special id."""
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for each text, on all cores that RAYON_NUM_THREADS allows."""
        return [list(e.ids) for e in self._inner.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ordinary tokens; specials are left out. Bytes that are not UTF-8 become U+FFFD."""
        return str(self._inner.decode(list(ids), skip_special_tokens=True))


@dataclass(frozen=True, slots=True)
class Tokenizer(TextCodec):
    """A vocabulary. Two with the same `digest` encode every text alike."""

    digest: bytes
    size: int

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a `tokenizer.json`. Raises ConfigurationError for a file that is not one of ours."""
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ConfigurationError(f"the tokenizer file {path.name} is larger than 4 MiB")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the tokenizer file {path} cannot be read") from error
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The tokenizer of a `tokenizer.json` text. Raises ConfigurationError."""
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises the bare Exception class
            raise ConfigurationError("the tokenizer file is damaged or of another kind") from error
        if any(inner.token_to_id(name) != number for number, name in enumerate(SPECIALS)):
            raise ConfigurationError("the tokenizer file lacks sordino's special tokens at the ids 0 to 3")
        inner.encode_special_tokens = True
        digest = hashlib.sha256(b"sordino-tokenizer/1\n" + text.encode()).digest()
        return cls(inner, digest, inner.get_vocab_size())

    @classmethod
    def shipped(cls) -> Self:
        """The tokenizer of the base model that comes with this package."""
        return _shipped()  # type: ignore[return-value]

    @classmethod
    def train(cls, texts: Iterable[str], *, vocabulary: int, pieces: str = PIECES) -> Self:
        """Learns a vocabulary of that size from `texts`, including the special tokens and the 256 bytes.

        `pieces` is a regular expression: no token crosses the border of a match. Values other than PIECES are for
        comparisons only.
        """
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pieces), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return cls.parse(inner.to_str())

    def to_json(self) -> str:
        """The text from which `parse` makes an equal tokenizer."""
        return self._inner.to_str()

    def token_bytes(self) -> list[bytes]:
        """The bytes of every token, by id; empty for the special tokens. Used for token healing and for counting
        bytes."""
        pieces = [self._inner.id_to_token(i) or "" for i in range(self.size)]
        return [b"" if i < len(SPECIALS) else bytes_of(p) for i, p in enumerate(pieces)]

    def fill(self, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
        """The prompt that asks for the text between the two: suffix, prefix, middle."""
        return [SUFFIX, *suffix, PREFIX, *prefix, MIDDLE]


@cache
def _shipped() -> Tokenizer:
    resource = files("sordino_platform") / "base" / "tokenizer.json"
    try:
        return Tokenizer.parse(resource.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            "this installation lacks the base tokenizer", hint="install sordino again"
        ) from error


def bytes_of(token: str) -> bytes:
    """The bytes of a token of a byte-level vocabulary, which writes bytes as printable characters."""
    byte_of = _byte_of_character()
    return bytes(byte_of[character] for character in token)


@cache
def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable characters for bytes: a printable byte stands for itself, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    others = (b for b in range(256) if b not in set(printable))
    return {**table, **{chr(256 + n): b for n, b in enumerate(others)}}
