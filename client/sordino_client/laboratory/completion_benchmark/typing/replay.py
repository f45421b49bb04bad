"""Typing a passage key by key beside something that suggests. Pure: the suggester is handed in.

The person types the passage as it stands in the file and pauses after each key for as long as a suggestion takes. A
suggestion that is shown stays while the keys follow it; the next is asked for when it is gone. It is accepted, with
one key, only where all of it is what comes next and it ends at the end of a word or a line. Nothing else is saved: a
suggestion that is right for half a line and then wrong has shown wrong text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """`text` is what is typed between `before` and `after`, in the file `path` of `project`."""

    language: str
    project: str
    path: str
    before: str = field(repr=False)
    text: str = field(repr=False)
    after: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedSuggestion:
    """The suggestion at the cursor, and the milliseconds until it was there."""

    text: str = field(repr=False)
    milliseconds: float


@dataclass(slots=True, kw_only=True)
class Typed:
    """One passage, typed to its end. `saved` is characters less the key that accepted them; `new_errors` counts what
    was shown and is a syntax error where the truth is none (errors.py)."""

    characters: int
    keys: int = 0
    shown: int = 0
    right: int = 0
    saved: int = 0
    wrong_characters: int = 0
    new_errors: int = 0
    milliseconds: list[float] = field(default_factory=list)


Suggest = Callable[[str, str], TypedSuggestion | None]
# (text before the cursor, what is shown, what comes in truth, text behind) -> whether it adds an error of its own
AddsError = Callable[[str, str, str, str], bool]


def replay(passage: Passage, suggest: Suggest, adds_error: AddsError = lambda *_: False) -> Typed:
    """Types `passage`; `suggest(prefix, suffix)` gives the text to show at a cursor, or None.

    Every character is typed or accepted exactly once: `keys + saved == characters`.
    """
    typed = Typed(characters=len(passage.text))
    at, standing = 0, ""
    while at < len(passage.text):
        if not standing:
            made = suggest(passage.before + passage.text[:at], passage.after)
            if made is not None and made.text.strip():
                standing = made.text
                typed.shown += 1
                typed.milliseconds.append(made.milliseconds)
                coming = passage.text[at:]
                before = passage.before + passage.text[:at]
                typed.new_errors += adds_error(before, standing, coming, passage.after)
                if acceptable(standing, coming):
                    typed.right += 1
                    typed.saved += len(standing) - 1
                    typed.keys += 1
                    at, standing = at + len(standing), ""
                    continue
                typed.wrong_characters += len(standing) - common(standing, coming)
        standing = standing[1:] if standing[:1] == passage.text[at] else ""
        typed.keys += 1
        at += 1
    return typed


def acceptable(suggestion: str, coming: str) -> bool:
    """Whether all of `suggestion` is what comes next, and ends where a word or the line does."""
    if not coming.startswith(suggestion):
        return False
    end = coming[len(suggestion) :][:1]
    return not (word(suggestion[-1]) and word(end))


def word(character: str) -> bool:
    """Whether a character is part of an identifier."""
    return character.isalnum() or character == "_"


def common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
