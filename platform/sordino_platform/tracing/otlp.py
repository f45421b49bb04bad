"""Traces to a collector, over OTLP and gRPC, by OpenTelemetry's own SDK. It needs the extra `traces` and is imported
only when traces are on.

A slow, full or missing collector never delays a round: spans wait in a bounded queue, and further ones are dropped.
OTEL_EXPORTER_OTLP_HEADERS is read from the environment, which is where a collector's token belongs; attributes from the
environment or the machine (OTEL_RESOURCE_ATTRIBUTES, detectors of hosts and processes) are ignored.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Final

import grpc
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from sordino_platform.durable import read_file
from sordino_platform.link.address import parse_address
from sordino_platform.link.proxy import is_loopback
from sordino_platform.tracing.steps import TracedSpan, TracedStep, allowed, root_id, trace_id

SEND_SECONDS: Final = 5
QUEUE: Final = 2048
MAX_AUTHORITY_BYTES: Final = 1 << 20


class OtlpTraces:
    """See `tracing.Traces`."""

    def __init__(self, address: str, *, authority: Path | None, resource: dict[str, str]) -> None:
        """Sends to `address` (HOST:PORT): by TLS with `authority` (PEM) or the system's roots, or unencrypted when it
        is this machine and no authority is named. Raises LinkError, StorageError."""
        host, _ = parse_address(address)
        plain = authority is None and is_loopback(host)
        roots = None if authority is None else read_file(authority, limit=MAX_AUTHORITY_BYTES)
        exporter = OTLPSpanExporter(
            endpoint=address,
            insecure=plain,
            credentials=None if plain else grpc.ssl_channel_credentials(roots),
            timeout=SEND_SECONDS,
        )
        self._ids = _Ids()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource(resource), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE))
        self._tracer = self._provider.get_tracer("sordino", version("sordino"))

    @contextlib.contextmanager
    def round(self, run: int, number: int) -> Iterator[TracedSpan]:
        self._ids.root = trace_id(run, number), root_id(run, number)
        with _running(self._tracer.start_span(TracedStep.ROUND.value, context=Context())) as running:
            running.note(round=number)
            yield running

    @contextlib.contextmanager
    def step(
        self, step: TracedStep, *, run: int | None = None, round: int | None = None, **facts: int | StrEnum
    ) -> Iterator[TracedSpan]:
        context = None if run is None or round is None else _within(run, round)
        with _running(self._tracer.start_span(step.value, context=context)) as running:
            if round is not None:
                running.note(round=round)
            running.note(**facts)
            yield running

    def close(self) -> None:
        self._provider.shutdown()


class _Span:
    def __init__(self, span: otel.Span) -> None:
        self._span = span

    def note(self, **facts: int | StrEnum) -> None:
        self._span.set_attributes(allowed(facts))


class _Ids(IdGenerator):
    """Random ids, except for the next span without a parent, which is the root of a round."""

    def __init__(self) -> None:
        self.root: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        """Called only for a span without a parent, before its span id."""
        return self.root[0] if self.root is not None else random.getrandbits(128) or 1

    def generate_span_id(self) -> int:
        root, self.root = self.root, None
        return root[1] if root is not None else random.getrandbits(64) or 1


@contextlib.contextmanager
def _running(span: otel.Span) -> Iterator[TracedSpan]:
    """Makes it the present span within the block. It records that there was an exception, never its text."""
    with otel.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield _Span(span)
        except BaseException:
            span.set_status(otel.Status(otel.StatusCode.ERROR))
            raise


def _within(run: int, round: int) -> Context:
    """Directly below the root of a round, whichever process sends the root."""
    sampled = otel.TraceFlags(otel.TraceFlags.SAMPLED)
    parent = otel.SpanContext(trace_id(run, round), root_id(run, round), is_remote=True, trace_flags=sampled)
    return otel.set_span_in_context(otel.NonRecordingSpan(parent), Context())
