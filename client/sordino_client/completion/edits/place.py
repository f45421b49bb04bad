"""Where the same change applies next: the places of a text that look as the changed one did before. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sordino_client.completion.edits.change import Change, is_word, tokens_before, tokens_behind

MAX_PLACES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Characters `start` to `end` of the text would become `new`. `likeness`: tokens beside it that are the same,
    in front and behind."""

    start: int
    end: int
    new: str = field(repr=False)
    likeness: tuple[int, int]


def places(text: str, change: Change) -> Iterator[Place]:
    """Every place where `change` could be made in the text after it, in the order of the text."""
    for count, (start, end) in enumerate(_equal(text, change)):
        if count == MAX_PLACES:
            return
        likeness = (
            _same(change.left, tokens_before(text, start)),
            _same(change.right, tokens_behind(text, end)),
        )
        yield Place(start=start, end=end, new=change.new, likeness=likeness)


def _equal(text: str, change: Change) -> Iterator[tuple[int, int]]:
    old, new = change.old, change.new
    within = new.find(old)
    at = text.find(old)
    while at >= 0:
        end = at + len(old)
        whole = not (at and is_word(old[0]) and is_word(text[at - 1])) and not (
            end < len(text) and is_word(old[-1]) and is_word(text[end])
        )
        changed = at < change.start + len(new) and change.start < end
        made = within >= 0 and text[max(0, at - within) : at - within + len(new)] == new
        if whole and not changed and not made:
            yield at, end
        at = text.find(old, at + 1)


def _same(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
