"""Renews a member's certificate without a person: asks over the link once a third of the certificate's life is left,
and installs the reply. The key is made here and stays here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sordino_client.metrics import MemberMetrics
from sordino_platform.identity import Identity
from sordino_platform.identity.renewal import ending, is_due, warned_days
from sordino_platform.identity.site import install_certificate, renewal_request
from sordino_platform.telemetry import log
from sordino_privacy.errors import SordinoError

TICK_SECONDS = 600.0


class Renewing:
    """One for the life of an agent. `ask` hands a request to the link; b"" withdraws it."""

    def __init__(self, identity: Identity, metrics: MemberMetrics, ask: Callable[[bytes], None]) -> None:
        self._identity, self._metrics, self._ask = identity, metrics, ask
        self._folder: Path = identity.folder
        self._warned: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sordino-renewing", daemon=True)

    def start(self) -> None:
        """Begins to look after the certificate."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; a tick under way is ended first."""
        self._stopping.set()
        self._thread.join()

    def tick(self, now: datetime) -> None:
        """Asks for a new certificate, or asks again, when it is time. Warns 30, 7 and 1 days before the end, once
        each."""
        tls = self._identity.tls()
        self._metrics.expiry.set(tls.expires_at.timestamp())
        self._ask(renewal_request(self._folder, now=now) if is_due(tls, now) else b"")
        days = warned_days(tls, now)
        if days != self._warned and days is not None:
            log().warning(
                "certificate_expiring",
                error=ending(tls, now),
                expires=f"{tls.expires_at:%Y-%m-%d %H:%M} UTC",
                hint="ask the federation's operator to approve the renewals that wait",
            )
        self._warned = days

    def renewed(self, certificate: bytes) -> None:
        """Installs the certificate that the link brought. Raises nothing: one that does not verify is not used."""
        try:
            install_certificate(self._folder, certificate.decode("ascii", "replace"))
            expires = self._identity.tls().expires_at
        except SordinoError as error:
            log().warning("renewal_failed", error=error.message, hint=error.hint)
            return
        self._ask(b"")
        self._metrics.expiry.set(expires.timestamp())
        log().info("renewed", expires=f"{expires:%Y-%m-%d %H:%M} UTC")

    def _run(self) -> None:
        while True:
            try:
                self.tick(datetime.now(UTC))
            except SordinoError as error:  # a full disk: it is tried again, long before the certificate ends
                log().warning("renewal_failed", error=error.message, hint=error.hint)
            if self._stopping.wait(TICK_SECONDS):
                return
