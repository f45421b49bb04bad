"""Finds where the same change applies next: the places of a text that look as the changed one did before. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sordino_client.completion.edits.change import LineChange, is_word, tokens_before, tokens_behind

# Text that stands in more places than this is not a change that somebody makes by hand.
MAX_PLACES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EditPlace:
    """Characters `start` to `end` of the text would become `new`.

    `left`, `right`: how many tokens in front of it and behind it are those of the change.
    """

    start: int
    end: int
    new: str = field(repr=False)
    left: int
    right: int


def places(text: str, change: LineChange) -> Iterator[EditPlace]:
    """Every place where `change` could be made in the text after it, in the order of the text."""
    for count, (start, end) in enumerate(_equal(text, change)):
        if count == MAX_PLACES:
            return
        yield EditPlace(
            start=start,
            end=end,
            new=change.new,
            left=_same(change.left, tokens_before(text, start)),
            right=_same(change.right, tokens_behind(text, end)),
        )


def _equal(text: str, change: LineChange) -> Iterator[tuple[int, int]]:
    """Where `old` stands as whole words, and has not become `new` yet."""
    old, new = change.old, change.new
    within = new.find(old)
    at = text.find(old)
    while at >= 0:
        end = at + len(old)
        part = (at > 0 and is_word(old[0]) and is_word(text[at - 1])) or (
            end < len(text) and is_word(old[-1]) and is_word(text[end])
        )
        changed = at < change.start + len(new) and change.start < end
        made = within >= 0 and at >= within and text.startswith(new, at - within)
        if not (part or changed or made):
            yield at, end
        at = text.find(old, at + 1)


def _same(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count
