"""What a trace may hold: the closed lists, a span's ids, and the implementation that sends nothing."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Final, Protocol

NUMBERS: Final = frozenset({"round", "attempt", "asked", "answered", "dropouts"})
WORDS: Final = frozenset({"outcome"})
ATTRIBUTES: Final = frozenset(f"sordino.{name}" for name in NUMBERS | WORDS)
# Once per process, for all its spans: the charter's public names.
RESOURCE: Final = frozenset({"service.name", "service.version", "sordino.federation", "sordino.party"})


class TracedStep(StrEnum):
    """All spans: the coordinator's, then a member's. A member's own training has three spans within it."""

    ROUND = "round"
    TRAIN = "train"
    SHARE_KEYS = "share_keys"
    MASKED_INPUT = "masked_input"
    MUSTER = "muster"
    SOUND = "sound"
    SURVIVORS = "survivors"
    UNMASK = "unmask"
    OPEN = "open"
    RELEASE = "release"
    RESULT = "result"
    MEMBER_TRAIN = "member.train"
    MEMBER_PREPARE = "member.prepare"
    MEMBER_COMPUTE = "member.compute"
    MEMBER_QUANTISE = "member.quantise"
    MEMBER_SHARE_KEYS = "member.share_keys"
    MEMBER_MASKED_INPUT = "member.masked_input"
    MEMBER_MUSTER = "member.muster"
    MEMBER_SOUND = "member.sound"
    MEMBER_SURVIVORS = "member.survivors"
    MEMBER_UNMASK = "member.unmask"
    MEMBER_RESULT = "member.result"


class TracedSpan(Protocol):
    """A running step."""

    def note(self, **facts: int | StrEnum) -> None:
        """Adds facts; one whose name or kind is not listed above is dropped."""
        ...


class Traces(Protocol):
    """The destination of spans. One round at a time. A step belongs to the step around it in its thread, else to the
    round."""

    def round(self, run: int, number: int) -> AbstractContextManager[TracedSpan]:
        """The coordinator's span of a round: the root of its trace."""
        ...

    def step(
        self, step: TracedStep, *, run: int | None = None, round: int | None = None, **facts: int | StrEnum
    ) -> AbstractContextManager[TracedSpan]:
        """A step within the present one; with `run` and `round`, directly within that round."""
        ...

    def close(self) -> None:
        """Sends the waiting spans. Takes at most half a minute when the collector is missing (the SDK's own bound)."""
        ...


class _Untraced:
    """No span and no traces."""

    def note(self, **facts: int | StrEnum) -> None:
        pass

    @contextlib.contextmanager
    def round(self, run: int, number: int) -> Iterator[TracedSpan]:
        yield self

    @contextlib.contextmanager
    def step(
        self, step: TracedStep, *, run: int | None = None, round: int | None = None, **facts: int | StrEnum
    ) -> Iterator[TracedSpan]:
        yield self

    def close(self) -> None:
        pass


UNTRACED: Final = _Untraced()


def allowed(facts: dict[str, int | StrEnum]) -> dict[str, int | str]:
    """The facts that may be sent, under the names used in traces."""
    return {
        f"sordino.{name}": value.value if isinstance(value, StrEnum) else value
        for name, value in facts.items()
        if (name in WORDS and isinstance(value, StrEnum))
        or (name in NUMBERS and isinstance(value, int) and not isinstance(value, bool))
    }


def trace_id(run: int, round: int) -> int:
    """The 128-bit id of a round's trace, never 0."""
    return _derived("trace", run, round, 16)


def root_id(run: int, round: int) -> int:
    """The 64-bit id of its root span, never 0."""
    return _derived("root", run, round, 8)


def _derived(what: str, run: int, round: int, size: int) -> int:
    digest = hashlib.sha256(f"sordino-{what}/1\n{run}\n{round}\n".encode()).digest()
    return int.from_bytes(digest[:size]) or 1
