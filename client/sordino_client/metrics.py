"""The agent's metrics. They describe private data, so they stay on the member's own loopback port.

What the coordinator may know it learns by the protocol, plus the epsilon that the member chooses to report.
"""

from __future__ import annotations

from enum import StrEnum

from sordino_client.completion.api.guard import REASONS
from sordino_client.corpus import ExclusionReason
from sordino_platform.telemetry import Metrics
from sordino_privacy.secagg import SecaggError

TRAIN_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200)


def every(kind: type[SecaggError]) -> list[type[SecaggError]]:
    """All refusals below `kind`: the protocol's whole tree."""
    return [found for child in kind.__subclasses__() for found in (child, *every(child))]


RULES = tuple(sorted({kind.label for kind in every(SecaggError)}))


class ParticipationOutcome(StrEnum):
    """How a round ended for this member."""

    CONTRIBUTED = "contributed"
    REFUSED_BUDGET = "refused_budget"
    REFUSED_POLICY = "refused_policy"
    DROPPED = "dropped"
    FAILED = "failed"


class MemberMetrics:
    """One registry with every label set created at the start."""

    def __init__(self) -> None:
        self.metrics = metrics = Metrics()
        metrics.build_info()
        self.participations = metrics.counter(
            "sordino_participations_total",
            "Rounds by how they ended for this member",
            outcome=tuple(p.value for p in ParticipationOutcome),
        )
        self.refusals = metrics.counter(
            "sordino_secagg_refusals_total",
            "Coordinator messages that this member refused, by rule",
            rule=RULES,
        )
        self.train_seconds = metrics.histogram(
            "sordino_train_duration_seconds", "Local training of one round", TRAIN_BUCKETS
        )
        self.train_units = metrics.counter(
            "sordino_train_units_total", "Units read by training, over all steps"
        )
        self.train_loss = metrics.gauge(
            "sordino_train_loss", "Mean training loss of the last round, nats per token"
        )
        self.clipped = metrics.gauge(
            "sordino_dp_clipped_ratio", "Share of units clipped in the last round, 0 to 1"
        )
        self.noise = metrics.gauge("sordino_dp_noise_multiplier", "Noise multiplier of the last round's plan")
        self.epsilon = metrics.gauge(
            "sordino_privacy_epsilon_spent", "Local epsilon spent, at the budget's delta"
        )
        self.budget = metrics.gauge(
            "sordino_privacy_epsilon_budget", "The smaller of the charter's and the own budget"
        )
        self.corpus_files = metrics.gauge("sordino_corpus_files", "Files in the corpus")
        self.corpus_units = metrics.gauge("sordino_corpus_units", "Units (file clusters) in the corpus")
        self.corpus_excluded = metrics.gauge(
            "sordino_corpus_excluded",
            "Files left out of the corpus, by reason",
            reason=tuple(r.value for r in ExclusionReason),
        )
        self.model_version = metrics.gauge("sordino_model_version", "The number of the newest release held")
        self.http_rejected = metrics.counter(
            "sordino_http_rejected_total",
            "Requests that the guard of the control endpoint or of the metrics refused",
            reason=REASONS,
        )
        self.write_errors = metrics.counter("sordino_ledger_write_errors_total", "Durable writes that failed")
        self.connected = metrics.gauge(
            "sordino_link_connected", "1 while the link to the coordinator is open"
        )
        self.expiry = metrics.gauge(
            "sordino_tls_certificate_expiry_timestamp_seconds",
            "When this member's certificate ends, in Unix time",
        )
