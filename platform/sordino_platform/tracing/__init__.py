"""Traces of rounds: the steps of a round, how long each took, and how it ended. Off by default.

    with traces.round(run, 12):
        with traces.step(TracedStep.TRAIN, asked=5) as step:
            ...
            step.note(answered=4)

What a trace may hold is a closed list, so that code, names of files and members' data cannot reach a collector by
accident: a span's name is a `TracedStep`; a note is a whole number under one of `NUMBERS`, or a word of a closed list
(`StrEnum`) under one of `WORDS`. No free text can get into a span, and an exception leaves only a mark that there was
one. docs/traces.md lists what is sent.

The coordinator's and the members' spans of a round form one trace, although no trace id is sent: both sides derive the
ids from the run and the round.
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
    """Traces to the collector at `address` (see `otlp.OtlpTraces`), or none if that is empty.

    `role` is coordinator or member, `name` the charter's name of the party. Raises ConfigurationError when the extra is
    not installed; LinkError, StorageError.
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
