"""Logs, metrics and the event file for an operator.

Rules: a metric is named once, in a frozen registry of its side, with every label combination created at the start
(otherwise the first forgery never fires `increase()`); labels come from closed enums. Logs are structured events with a
fixed vocabulary; a field whose name is not in `LOGGABLE` is dropped, so that code, prompts, updates, keys and tokens
cannot reach a log by accident.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

Metric = TypeVar("Metric", Counter, Gauge, Histogram)

# The only fields that a log line may carry. Values are names, numbers and closed enums, never data.
LOG_BYTES, LOG_FILES = 64 << 20, 3
# fmt: off
LOGGABLE: Final = frozenset({
    "event", "level", "timestamp", "logger", "federation", "member", "members", "run", "round", "attempt", "phase",
    "outcome", "reason", "seconds", "count", "cohort", "survivors", "dropouts", "release", "loss", "loss_before",
    "epsilon", "budget", "bytes", "received", "sent", "port", "address", "version", "pid", "signal", "path", "expires",
    "error", "hint", "units", "norm", "saturated", "precision", "state", "connected", "required", "exception",
})
# fmt: on
STRUCTLOGS_OWN: Final = frozenset({"_record", "_from_structlog"})  # removed by the last processor


def redact(_: Any, __: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Drops every field that is not in `LOGGABLE`. The name of a dropped field is logged, never its value."""
    unknown = set(fields) - LOGGABLE - STRUCTLOGS_OWN
    kept = {name: value for name, value in fields.items() if name not in unknown}
    if unknown:
        kept["reason"] = f"dropped {len(unknown)} unlisted field(s)"
    return kept


def configure_logging(events: Path | None = None, *, console: bool = True) -> None:
    """JSON lines to `events` (appended, 0600) and, on a terminal, readable lines on stderr. Called once per process."""
    handlers: list[logging.Handler] = []
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[structlog.typing.Processor] = [structlog.stdlib.add_log_level, stamp, redact]

    def formatted(handler: logging.Handler, renderer: structlog.typing.Processor) -> logging.Handler:
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                foreign_pre_chain=shared,
            )
        )
        return handler

    if events is not None:
        events.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        events.touch(mode=0o600)
        handlers.append(
            formatted(
                logging.handlers.RotatingFileHandler(events, maxBytes=LOG_BYTES, backupCount=LOG_FILES),
                structlog.processors.JSONRenderer(),
            )
        )
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        handlers.append(formatted(logging.StreamHandler(sys.stderr), renderer))
    logging.basicConfig(handlers=handlers or [logging.NullHandler()], level=logging.INFO, force=True)
    for noisy in ("flwr", "httpx", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def log() -> structlog.stdlib.BoundLogger:
    """The process's logger of structured events."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("sordino")
    return logger


def follow_log(events: Path, *, start: int = 0, whole: bool = True) -> tuple[list[dict[str, Any]], int]:
    """The events appended to a log since byte `start`, and where to go on. A line that is still being written is left
    for the next call.

    If `start` may lie within a line, `whole=False` skips that line.
    """
    if not events.exists():
        return [], start
    with events.open("rb") as file:
        file.seek(start)
        data = file.read()
    lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    told = [json.loads(line) for line in lines[0 if whole or start == 0 else 1 :]]
    return told, start + sum(map(len, lines))


class Metrics:
    """A separate registry. Every metric made through it has all its label combinations from the first scrape on."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)

    def counter(self, name: str, text: str, **labels: Sequence[str]) -> Counter:
        """A counter; `labels` maps each label to its closed list of values."""
        return self._fill(Counter(name, text, list(labels), registry=self.registry), labels)

    def gauge(self, name: str, text: str, **labels: Sequence[str]) -> Gauge:
        """A gauge; `labels` maps each label to its closed list of values."""
        return self._fill(Gauge(name, text, list(labels), registry=self.registry), labels)

    def histogram(self, name: str, text: str, buckets: Sequence[float], **labels: Sequence[str]) -> Histogram:
        """A histogram with fixed buckets in base units."""
        return self._fill(
            Histogram(name, text, list(labels), buckets=buckets, registry=self.registry), labels
        )

    def build_info(self, **labels: str) -> None:
        """The gauge that names the running version of this package, and the further facts in `labels`."""
        said = {"version": version("sordino"), **labels}
        info = self.gauge(
            "sordino_build_info",
            "Always 1; the labels say what runs",
            **{label: [value] for label, value in said.items()},
        )
        info.labels(**said).set(1)

    def _fill(self, metric: Metric, labels: Mapping[str, Sequence[str]]) -> Metric:
        if labels:
            for values in product(*labels.values()):
                metric.labels(*values)
        return metric

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


@contextlib.contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observes how long the block took, in seconds, whatever its outcome."""
    started = time.monotonic()
    try:
        yield
    finally:
        histogram.observe(time.monotonic() - started)
