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

from importlib.metadata import version
from pathlib import Path

from sordino_platform.tracing.steps import (
    ATTRIBUTES,
    RESOURCE,
    UNTRACED,
    TracedSpan,
    TracedStep,
    Traces,
    allowed,
    root_id,
    trace_id,
)
from sordino_privacy.errors import ConfigurationError

__all__ = [
    "ATTRIBUTES",
    "RESOURCE",
    "UNTRACED",
    "TracedSpan",
    "TracedStep",
    "Traces",
    "allowed",
    "open_traces",
    "root_id",
    "trace_id",
]


def open_traces(address: str, *, authority: Path | None, federation: str, role: str, name: str) -> Traces:
    """Traces to the collector at `address` (see `otlp.OtlpTraces`), or none where that is empty.

    `role` is coordinator or member, `name` the charter's name of the party. Raises ConfigurationError where the extra
    is not installed; LinkError, StorageError.
    """
    if not address:
        return UNTRACED
    try:
        from sordino_platform.tracing.otlp import OtlpTraces
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
