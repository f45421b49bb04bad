"""How much of one written text is shown: where it is worth most, as far as its file stays free of errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sordino_client.completion.showing.syntax import gate_for
from sordino_client.completion.showing.worth import PRICES, Show, ends
from sordino_client.completion.text.place import Place

Unshown = Literal["unsure", "syntax"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """`text[:end]` is shown; `why` less than all."""

    end: int
    why: Unshown | None = None


def judge(
    text: str, pieces: Sequence[str], logprobs: Sequence[float], place: Place, path: str | None, show: Show
) -> Judgement:
    """`pieces` of `text` (LF only) and the log-probability of each; `path` tells the language."""
    if show == "all":
        return Judgement(end=len(text))
    found = [end.at for end in ends(text, pieces, logprobs, price=PRICES[show])]
    if not found:
        return Judgement(end=0, why="unsure")
    gate = gate_for(path) if path is not None else None
    end = found[0] if gate is None else gate.end(place.prefix, text, place.suffix, ends=found)
    if end == len(text):
        return Judgement(end=end)
    return Judgement(end=end, why="unsure" if end == found[0] else "syntax")


def hopeless(show: Show) -> float:
    """The log-probability below which no text of any length is worth showing, so that writing can stop."""
    return -math.inf if show == "all" else math.log(PRICES[show] / (1 + PRICES[show]))
