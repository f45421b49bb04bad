"""Decides where a text should end so that showing it is worth most, and whether to show it at all.

A text that is right for its whole length saves its characters; any other costs the developer a look. A text may end
after a word or with its line. For each such end the chance that all of the text is right is the product of its tokens'
probabilities, and the end with the highest worth is chosen:

    worth(end) = chance * (characters - 1) - price * (1 - chance) * characters

`price` is what a wrong character costs beside a saved one: the setting quiet, balanced or eager. The product needs no
further curve: with the memory's fitted mixture its squared error on 12,165 places in the tuning corpus is 0.1020, and
0.1023 after a logistic curve of product, length and line ends that was fitted to those same places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Show = Literal["all", "eager", "balanced", "quiet"]
# Chosen on the tuning corpus (docs/completion.md): what a wrong character costs beside a saved one.
PRICES: Mapping[Show, float] = {"eager": 0.1, "balanced": 0.3, "quiet": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A place where a text may end; `worth` in characters saved."""

    at: int
    worth: float


def ends(text: str, pieces: Sequence[str], logprobs: Sequence[float], *, price: float) -> list[End]:
    """The places where `text` may end, the most worth first; only those that are worth showing.

    A place is the end of a piece that ends a word or a line, not a blank. One lone bracket is no text.
    """
    found: list[End] = []
    logprob, at = 0.0, 0
    for piece, of_piece in zip(pieces, logprobs, strict=True):
        logprob += of_piece
        at = min(at + len(piece), len(text))
        if not piece or not showable(text[:at]) or _inside_word(text, at):
            continue
        chance = math.exp(logprob)
        worth = chance * (at - 1) - price * (1 - chance) * at
        if worth > 0:
            found.append(End(at=at, worth=worth))
    return sorted(found, key=lambda end: -end.worth)


def showable(text: str) -> bool:
    """Whether a text is worth offering at all: more than one character, more than a bracket, and no blank at its
    end."""
    plain = text.strip()
    return len(text) > 1 and text[-1:] == plain[-1:] and (len(plain) > 1 or plain.isalnum())


def _inside_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and _word(text[at - 1]) and _word(text[at])


def _word(character: str) -> bool:
    return character.isalnum() or character == "_"
