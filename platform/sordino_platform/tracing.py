"""Traces of rounds: which steps a round had, how long each took, how it ended. Off by default.

    with traces.round(run, 12):
        with traces.step(TracedStep.TRAIN, asked=5) as step:
            ...
            step.note(answered=4)

What a trace may hold is a closed list, so that code, names of files and members' data cannot reach a collector by
accident: a span's name is a `TracedStep`; a note is a whole number under one of `NUMBERS`, or a word of a closed list
(`StrEnum`) under one of `WORDS`. There is no way to put a text into a span, and an exception leaves only the mark that
there was one. What is sent is written in docs/traces.md.

The coordinator's and the members' spans of a round are one trace without a word about it on the wire: the ids are
derived from the run and the round, which both sides know.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

from sordino_privacy.errors import ConfigurationError

NUMBERS: Final = frozenset({"round", "attempt", "asked", "answered", "dropouts"})
WORDS: Final = frozenset({"outcome"})
ATTRIBUTES: Final = frozenset(f"sordino.{name}" for name in NUMBERS | WORDS)
# Of the process, once for all its spans: the charter's public names.
RESOURCE: Final = frozenset({"service.name", "service.version", "sordino.federation", "sordino.party"})


class TracedStep(StrEnum):
    """Every span that there is. The coordinator's, then a member's; a member's own training has three within it."""

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
    """A step while it runs."""

    def note(self, **facts: int | StrEnum) -> None:
        """Adds facts; one whose name or kind is not listed above is dropped."""
        ...


class Traces(Protocol):
    """Where spans go. One round at a time; a step belongs to the step around it in its thread, else to the round."""

    def round(self, run: int, number: int) -> AbstractContextManager[TracedSpan]:
        """The coordinator's span of a round: the root of its trace."""
        ...

    def step(
        self, step: TracedStep, *, run: int | None = None, round: int | None = None, **facts: int | StrEnum
    ) -> AbstractContextManager[TracedSpan]:
        """A step within the present one; with `run` and `round`, directly within that round."""
        ...

    def close(self) -> None:
        """Sends what waits; half a minute at most, where the collector is gone (the SDK's own bound)."""
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
    """The facts that may leave, under the names that they leave by."""
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


def open_traces(address: str, *, authority: Path | None, federation: str, role: str, name: str) -> Traces:
    """Traces to the collector at `address` (see `otlp.OtlpTraces`), or none where that is empty.

    `role` is coordinator or member, `name` the charter's name of the party. Raises ConfigurationError where the extra
    is not installed; LinkError, StorageError.
    """
    if not address:
        return UNTRACED
    try:
        from sordino_platform.otlp import OtlpTraces
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "traces are set, and OpenTelemetry is not installed", hint='pip install "sordino[traces]"'
        ) from error
    resource = {
        "service.name": f"sordino-{role}",
        "service.version": version("sordino"),
        "sordino.federation": federation,
        "sordino.party": name,
    }
    return OtlpTraces(address, authority=authority, resource=resource)
