"""The clerk looks after certificates at the coordinator: it takes members' renewal requests, asks for the coordinator's
own renewal, and warns before a certificate ends.

`renew` is called on the link's thread and returns at once; `tick` on the clerk's own thread, now and then.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sordino_coordinator.metrics import CoordinatorMetrics
from sordino_platform.identity import Identity
from sordino_platform.identity.care import CertificateCare
from sordino_platform.identity.renewal import RenewalBox
from sordino_platform.telemetry import log


class Clerk:
    """One for the life of a coordinator's process."""

    def __init__(self, identity: Identity, metrics: CoordinatorMetrics) -> None:
        self._identity, self._metrics = identity, metrics
        self._box = RenewalBox(identity.folder)
        self._waiting: set[str] = set()
        self._care = CertificateCare(
            self.tick,
            thread="sordino-clerk",
            hint="sordino identity pending, then approve, then deliver",
        )

    def start(self) -> None:
        """Begins to look after the coordinator's own certificate."""
        self._care.start()

    def stop(self) -> None:
        """Ends; a tick under way is ended first."""
        self._care.stop()

    def renew(self, member: str, request: bytes) -> bytes | None:
        """Keeps a member's request; its certificate once there is one. Raises SordinoError for one it does not take."""
        certificate = self._box.ask(request, sender=member, now=datetime.now(UTC))
        if certificate is not None:
            self._waiting.discard(member)
        elif member not in self._waiting:
            self._waiting.add(member)
            log().info("renewal_waits", member=member, hint="sordino identity pending, then approve")
        self._metrics.renewals.set(len(self._waiting))
        return None if certificate is None else certificate.encode("ascii")

    def tick(self, now: datetime) -> None:
        """Asks for the coordinator's own renewal once it is due, and warns 30, 7 and 1 days before the end."""
        self._box.prune()
        self._box.ask_own(now)
        tls = self._identity.tls()
        self._metrics.expiry.labels("coordinator").set(tls.expires_at.timestamp())
        self._care.warn(tls, now)
