"""Types a passage key by key with a suggester. Pure: the suggester is an argument.

The person types the passage exactly and pauses after each key until a suggestion is there. A shown suggestion stays as
long as the typed keys match it; then the next one is requested. The person accepts it, with one key, only if all of it
matches the passage and it ends at the end of a word or a line. Nothing else counts as saved: a suggestion that is right
for half a line and then wrong has shown wrong text.
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
    """The suggestion at the cursor, and the milliseconds that it took."""

    text: str = field(repr=False)
    milliseconds: float


@dataclass(slots=True, kw_only=True)
class Typed:
    """One passage, typed to its end.

    `saved` is the number of accepted characters minus the keys that accepted them. `new_errors` counts shown texts that
    add a syntax error (errors.py).
    """

    characters: int
    keys: int = 0
    shown: int = 0
    right: int = 0
    saved: int = 0
    wrong_characters: int = 0
    new_errors: int = 0
    milliseconds: list[float] = field(default_factory=list)


Suggest = Callable[[str, str], TypedSuggestion | None]
# (text before the cursor, shown text, true text, text after) -> whether the shown text adds an error
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
    """Whether the following text starts with all of `suggestion`, which ends at the end of a word or of the line."""
    if not coming.startswith(suggestion):
        return False
    end = coming[len(suggestion) :][:1]
    return not (word(suggestion[-1]) and word(end))


def word(character: str) -> bool:
    """Whether a character is part of an identifier."""
    return character.isalnum() or character == "_"


def common(one: str, other: str) -> int:
    """The length of the common prefix of two texts, in characters."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
