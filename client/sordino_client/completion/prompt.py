"""From the text around a cursor to the tokens that the model reads.

With text after the cursor the order is suffix, prefix, middle: the suffix stays as it is while someone types, so
everything that was read stays valid and a keystroke costs only its own tokens. For the same reason the window
over a long prefix does not slide with each keystroke: it keeps its first line until it overflows, and then moves
by a quarter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sordino_client.completion.context import Snippet
from sordino_client.completion.vocabulary import Vocabulary, split_lines

# Text further away than this is not encoded; at most 64 Ki characters reach the memory of the open file.
MAX_PREFIX_CHARACTERS = 64 << 10
MAX_SUFFIX_CHARACTERS = 16 << 10
REFILL_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The tokens that the model reads, and the bytes that it must then write first.

    `typed`: bytes taken back by token healing (`healed` tokens); the completion begins with them. `opening`: the
    window's first whole lines, by which the next prompt finds the same window. `before`: the tokens of all known
    text before the cursor (healed), `after` of the text behind it, `context` of each piece of another file (the nearest
    last), for the local memory.
    """

    tokens: list[int]
    typed: bytes
    healed: int
    opening: tuple[str, ...]
    before: list[int]
    after: list[int]
    context: tuple[list[int], ...] = ()


def build(
    vocabulary: Vocabulary,
    prefix: str,
    suffix: str,
    *,
    budget: int,
    openings: Sequence[tuple[str, ...]] = (),
    heal: bool = True,
    context: Sequence[Snippet] = (),
) -> Prompt:
    """At most `budget` tokens for the text between `prefix` and `suffix`."""
    whole = len(prefix) <= MAX_PREFIX_CHARACTERS
    lines = split_lines(prefix[-MAX_PREFIX_CHARACTERS:])
    encoded = vocabulary.encode_lines(lines)
    typed, healed = b"", 0
    if heal:
        kept, typed = vocabulary.heal(encoded[-1], lines[-1])
        healed = len(encoded[-1]) - len(kept)
        encoded[-1] = kept
    after = _tokens(vocabulary, suffix[:MAX_SUFFIX_CHARACTERS])
    room = budget - vocabulary.overhead
    share = vocabulary.suffix_share
    behind = after[: room // share] if share and suffix.strip() else []
    room -= len(behind)
    start = _window(lines, encoded, room, openings)
    before = [token for line in encoded for token in line]
    window = [token for line in encoded[start:] for token in line][-room:]
    return Prompt(
        tokens=vocabulary.framed(window, behind, whole=start == 0 and whole),
        typed=typed,
        healed=healed,
        opening=tuple(lines[start : min(start + 2, len(lines) - 1)]),
        before=before,
        after=after,
        context=tuple(_tokens(vocabulary, snippet.text) for snippet in reversed(context)),
    )


def _tokens(vocabulary: Vocabulary, text: str) -> list[int]:
    return [token for line in vocabulary.encode_lines(split_lines(text)) for token in line]


def _window(
    lines: Sequence[str], encoded: Sequence[Sequence[int]], room: int, openings: Sequence[tuple[str, ...]]
) -> int:
    """The line at which the window begins: that of an earlier prompt if it still fits, else three quarters full."""
    total, fits, refill = 0, len(lines) - 1, len(lines) - 1
    for number in range(len(lines) - 1, -1, -1):
        total += len(encoded[number])
        if total > room:
            break
        fits = number
        if total <= room * REFILL_SHARE:
            refill = number
    if fits == 0:
        return 0
    for opening in filter(None, openings):
        for number in range(fits, len(lines) - len(opening)):
            if tuple(lines[number : number + len(opening)]) == opening:
                return number
    return refill
