"""The endpoint's metrics, by the names of docs; served on its own `/metrics`, token needed, never sent anywhere."""

from __future__ import annotations

from sordino_client.completion.api.guard import REASONS
from sordino_platform.telemetry import Metrics

LATENCY_BUCKETS = (0.025, 0.05, 0.08, 0.12, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0)


class CompletionMetrics:
    """One registry for one endpoint; every label value exists from the first scrape."""

    def __init__(self) -> None:
        self.registry = registry = Metrics()
        self.requests = registry.counter(
            "sordino_completion_requests_total",
            "Completion requests by how they ended.",
            outcome=("ok", "rejected", "error", "cancelled"),
        )
        self.duration = registry.histogram(
            "sordino_completion_duration_seconds", "From taking a request to its last token.", LATENCY_BUCKETS
        )
        self.first_token = registry.histogram(
            "sordino_completion_first_token_seconds",
            "Reading the prompt, up to the first token.",
            LATENCY_BUCKETS,
        )
        self.queue = registry.histogram(
            "sordino_completion_queue_seconds", "Waiting for the engine.", LATENCY_BUCKETS
        )
        self.tokens = registry.counter(
            "sordino_completion_tokens_total", "Tokens read and written.", kind=("prompt", "generated")
        )
        self.in_flight = registry.gauge(
            "sordino_completions_in_flight", "Requests taken and not answered yet."
        )
        self.events = registry.counter(
            "sordino_completion_events_total",
            "What developers did with what was shown.",
            event=("shown", "accepted", "dismissed"),
        )
        self.http_rejected = registry.counter(
            "sordino_http_rejected_total",
            "Requests that the guard refused.",
            reason=REASONS,
        )
