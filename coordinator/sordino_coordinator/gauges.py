"""The gauges that describe a coordinator's state, set anew whenever it changes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sordino_coordinator.metrics import CoordinatorMetrics
from sordino_coordinator.rounds import MemberRecord
from sordino_platform.charter import Charter
from sordino_platform.release import ReleaseStore


def show_charter(metrics: CoordinatorMetrics, charter: Charter, seen: Iterable[MemberRecord]) -> None:
    """What the charter says. Its members are counted by whether the certificate that was last `seen` of each still
    holds."""
    now, names = datetime.now(UTC).timestamp(), {member.name for member in charter.members}
    expired = sum(member.name in names and member.certificate_expires <= now for member in seen)
    metrics.enrolled.labels("active").set(len(names) - expired)
    metrics.enrolled.labels("expired").set(expired)
    metrics.enrolled.labels("revoked").set(len(charter.retired))
    metrics.cohort_minimum.set(charter.floors.cohort)
    metrics.epsilon_budget.set(charter.privacy.largest_epsilon)
    metrics.expiry.labels("ca").set(charter.tls_authority.x509().not_valid_after_utc.timestamp())


def show_release(metrics: CoordinatorMetrics, releases: ReleaseStore, loss: float | None) -> None:
    """The newest release, with its held-out `loss` in nats per token."""
    memory = releases.shared_memory()
    metrics.model_version.set(releases.head().number)
    metrics.loss.set(loss or 0.0)
    metrics.phrases.set(0 if memory is None else memory.phrases)
