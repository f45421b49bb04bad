"""Finds what an edit changed: the few tokens of one line that became others, and the tokens beside them.

The texts before and after are enough: it does not matter whether the change was typed key by key or pasted. Only a
change within one line counts; all others give None. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Final

# A longer change is moved code, not an edit that somebody makes twice.
MAX_CHARACTERS: Final = 200
BREAK: Final = re.compile(r"[\r\n]")
# Tokens beside the change that are compared with those beside a place.
CONTEXT_TOKENS: Final = 4
TOKEN: Final = re.compile(r"\w+|[^\w\s]|[^\S\n]+|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChange:
    """`old` became `new`, which stands at character `start` of the text after it.

    Neither holds a line end, and `old` is never blank: what was only added is named with the word it was added to.

    `left`, `right`: the tokens beside it, the nearest first, blanks left out, of its own line.
    """

    start: int
    old: str = field(repr=False)
    new: str = field(repr=False)
    left: tuple[str, ...] = field(repr=False)
    right: tuple[str, ...] = field(repr=False)


def change_between(before: str, after: str) -> LineChange | None:
    """The change, if it lies within one line and is more than blanks.

    Several equal changes of one line (a name that stands in it twice) are one, the last of them.
    """
    start, old, new = _difference(before, after)
    if len(old) > MAX_CHARACTERS or len(new) > MAX_CHARACTERS or BREAK.search(old + new):
        return None
    if old.strip() == new.strip():
        return None
    start, old, new = _repeated(start, old, new)
    if not old.strip():
        start, old, new = _anchored(after, start, old, new)
    if not old.strip():
        return None
    end = start + len(new)
    return LineChange(
        start=start, old=old, new=new, left=tokens_before(after, start), right=tokens_behind(after, end)
    )


def tokens_before(text: str, at: int) -> tuple[str, ...]:
    """The tokens in front of `at` on its line, the nearest first."""
    line = text[text.rfind("\n", 0, at) + 1 : at][-MAX_CHARACTERS:]
    return tuple(reversed(_words(line)))[:CONTEXT_TOKENS]


def tokens_behind(text: str, at: int) -> tuple[str, ...]:
    """The tokens from `at` on, to the end of its line."""
    end = text.find("\n", at)
    return tuple(_words(text[at : end if end >= 0 else len(text)][:MAX_CHARACTERS]))[:CONTEXT_TOKENS]


def is_word(character: str) -> bool:
    """Whether it is a part of names and numbers."""
    return character.isalnum() or character == "_"


def _words(line: str) -> list[str]:
    return [token for token in TOKEN.findall(line) if not token.isspace()]


def _difference(before: str, after: str) -> tuple[int, str, str]:
    """Where the texts differ, widened to whole words: half a name is no change of its own."""
    start = _common(before, after)
    rest = min(len(before), len(after)) - start
    tail = min(rest, _common(before[::-1], after[::-1]))
    old_end, new_end = len(before) - tail, len(after) - tail
    if start == old_end == new_end:
        return start, "", ""

    edges = (before[start:old_end], after[start:new_end])
    if start and is_word(after[start - 1]) and any(edge and is_word(edge[0]) for edge in edges):
        while start and is_word(after[start - 1]):
            start -= 1
    if tail and is_word(after[new_end]) and any(edge and is_word(edge[-1]) for edge in edges):
        while new_end < len(after) and is_word(after[new_end]):
            old_end, new_end = old_end + 1, new_end + 1
    return start, before[start:old_end], after[start:new_end]


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _repeated(start: int, old: str, new: str) -> tuple[int, str, str]:
    """The change that is made several times between `old` and `new`, or all of it."""
    was, now = TOKEN.findall(old), TOKEN.findall(new)
    steps = [
        ("".join(was[a:b]), "".join(now[c:d]), c)
        for kind, a, b, c, d in SequenceMatcher(None, was, now, autojunk=False).get_opcodes()
        if kind != "equal"
    ]
    if len(steps) > 1 and len({(one, other) for one, other, _ in steps}) == 1:
        one, other, at = steps[-1]
        return start + len("".join(now[:at])), one, other
    return start, old, new


def _anchored(after: str, start: int, old: str, new: str) -> tuple[int, str, str]:
    """Text that was only added, with the word that it was added to, since nothing else says where it belongs."""
    end = start + len(new)
    if new and not new[-1].isspace() and end < len(after) and is_word(after[end]):
        word = TOKEN.findall(after[end : end + MAX_CHARACTERS])[0]
        return start, old + word, new + word
    line = TOKEN.findall(after[after.rfind("\n", 0, start) + 1 : start][-MAX_CHARACTERS:])
    if not line:
        return start, old, new
    taken = line[-1] if not line[-1].isspace() else "".join(line[-2:])
    return start - len(taken), taken + old, taken + new
