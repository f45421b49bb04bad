"""Pieces of other files that an editor sends beside the open file: they are open or were just edited there.

For one request they join the open file's part of the memory. They are not kept, and the model does not read them. An
open tab may hold a credential that stands in no repository, so here the corpus's rules apply again: nothing of a file
that is named like secrets, and a placeholder for every literal that may be one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from sordino_client.completion.names import may_hold_secrets
from sordino_client.completion.text.place import normal
from sordino_client.corpus.languages import by_name
from sordino_client.corpus.secrets import screen

MAX_PIECES: Final = 8
# Of UTF-8, in all pieces together.
MAX_BYTES: Final = 32 << 10
# What an editor sends of one file, so that all pieces always fit.
PIECE_BYTES: Final = MAX_BYTES // MAX_PIECES


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A piece of another file. `path` is the file's, as the editor has it, "" where it does not say."""

    path: str = field(repr=False)
    text: str = field(repr=False)


def admitted(given: Iterable[Snippet]) -> tuple[Snippet, ...]:
    """The pieces of `given` (the nearest first) that the memory may use: LF only, masked, at most MAX_PIECES and
    MAX_BYTES.

    A piece is taken whole or not at all: half a credential would not be recognised. The first piece that does not fit
    ends the list, so that no more text than the bounds is searched.
    """
    taken: list[Snippet] = []
    left = MAX_BYTES
    for snippet in given:
        if len(taken) == MAX_PIECES:
            break
        if len(snippet.text) > MAX_BYTES or may_hold_secrets(snippet.path):
            continue
        text = normal(snippet.text)
        if len(text.encode()) > left:
            break
        masked = _masked(text, by_name(snippet.path) or "")
        size = len(masked.encode())
        if size > left:  # a placeholder may be longer than the literal that it replaces
            break
        if masked.strip():
            taken.append(Snippet(path=snippet.path, text=masked))
            left -= size
    return tuple(taken)


def around(text: str, place: int, limit: int) -> str:
    """Whole lines around an offset, in `limit` bytes of UTF-8 at most: those below and above it in turn."""
    start = end = _line_start(text, min(place, len(text)))
    above = below = True
    while above or below:
        if below:
            until = text.find("\n", end) + 1 or len(text)
            size = _size(text, end, until, limit)
            below = 0 < size <= limit
            end, limit = (until, limit - size) if below else (end, limit)
        if above:
            since = _line_start(text, start - 1)
            size = _size(text, since, start, limit)
            above = 0 < size <= limit
            start, limit = (since, limit - size) if above else (start, limit)
    return text[start:end]


def _line_start(text: str, at: int) -> int:
    return 0 if at <= 0 else text.rfind("\n", 0, at) + 1


def _size(text: str, start: int, end: int, limit: int) -> int:
    """Bytes of a part; more than `limit` without a look where it has more characters than that."""
    return limit + 1 if end - start > limit else len(text[start:end].encode(errors="replace"))


# The same tabs are sent with every key.
@lru_cache(maxsize=4 * MAX_PIECES)
def _masked(text: str, language: str) -> str:
    return screen(text, language).text
