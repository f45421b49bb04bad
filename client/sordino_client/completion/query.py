"""Queries to a model and its answers: the shapes that the engine, the dialects and the memory share.

Texts here are an editor's own: its line endings, its characters (see completion/text/place.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sordino_client.completion.cache import MAX_BRANCHES
from sordino_client.completion.context import Snippet
from sordino_client.completion.showing.judgement import Unshown
from sordino_client.completion.showing.worth import Show
from sordino_client.completion.stopping import Finish
from sordino_client.completion.text.fitting import Cut

MAX_ALTERNATIVES = MAX_BRANCHES
MAX_TOKENS = 256

Silence = Literal["line_ending", "character", "secret_file"]
Probabilities = npt.NDArray[np.float64]


class Cancelled(Exception):  # noqa: N818 - not an error: a newer request came, or nobody listens any more
    """The query was withdrawn while it was answered."""


class Recall(Protocol):
    """The local memory's part in one query."""

    def mix(self, probabilities: Probabilities, written: Sequence[int]) -> Probabilities:
        """The model's next-token distribution, `(vocabulary,)`, mixed with the memory's after `written`."""
        ...

    def draft(self, written: Sequence[int], count: int) -> list[int]:
        """Up to `count` tokens that followed the same text before; empty when nothing matches well."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One request, of any dialect. `prefix` and `suffix` are an editor's text; the dialects check bounds."""

    prefix: str = field(repr=False)
    suffix: str = field(default="", repr=False)
    max_tokens: int = 48
    alternatives: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)
    multiline: bool | None = None
    top_logprobs: int = 0
    heal: bool = True
    # After this many seconds writing ends with the present token.
    seconds: float | None = None
    # The file's path as the editor has it, where it says: only its names are looked at (api/service.py).
    path: str | None = field(default=None, repr=False)
    # How sure a text must be to be shown; None leaves it to the endpoint. Sampled texts are always shown.
    show: Show | None = None
    # Pieces of other files, the nearest first: as the editor sent them, until the service admits them (context.py).
    context: tuple[Snippet, ...] = ()


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """One written token: its text as far as it lies behind the cursor, log-probability, and the likeliest instead."""

    text: str = field(repr=False)
    logprob: float
    top: dict[str, float] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Completion:
    """One alternative. `confidence` is the geometric mean of its tokens' probabilities, 0 when there are none;
    `cut`: why less is offered than was written."""

    text: str = field(repr=False)
    finish: Finish
    tokens: tuple[WrittenToken, ...]
    confidence: float
    cut: Cut | Unshown | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All alternatives, best first, and what they cost (tokens; seconds)."""

    completions: tuple[Completion, ...]
    model: str
    prompt_tokens: int
    reused_tokens: int
    generated_tokens: int
    # Written again, since the cursor stood within them: no part of `generated_tokens`.
    healed_tokens: int
    drafted_tokens: int
    first_token_seconds: float
    seconds: float
    # Why the model was not asked at all.
    silence: Silence | None = None


OnText = Callable[[int, str, Sequence[WrittenToken]], None]


def nothing(model: str, *, silence: Silence | None = None, read: int = 0, seconds: float = 0.0) -> Answer:
    """An answer without a completion: to a request that only reads ahead, or for a reason."""
    return Answer(
        completions=(),
        model=model,
        prompt_tokens=read,
        reused_tokens=0,
        generated_tokens=0,
        healed_tokens=0,
        drafted_tokens=0,
        first_token_seconds=seconds,
        seconds=seconds,
        silence=silence,
    )
