"""Renews a member's certificate without a person: asks over the link once a third of the certificate's life is left,
and installs the reply. The key is made here and stays here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sordino_client.metrics import MemberMetrics
from sordino_platform.identity import Identity
from sordino_platform.identity.care import CertificateCare
from sordino_platform.identity.renewal import is_due
from sordino_platform.identity.site import install_certificate, renewal_request
from sordino_platform.telemetry import log
from sordino_privacy.errors import SordinoError


class Renewing:
    """One for the life of an agent. `ask` hands a request to the link; b"" withdraws it."""

    def __init__(self, identity: Identity, metrics: MemberMetrics, ask: Callable[[bytes], None]) -> None:
        self._identity, self._metrics, self._ask = identity, metrics, ask
        self._folder: Path = identity.folder
        self._care = CertificateCare(
            self.tick,
            thread="sordino-renewing",
            hint="ask the federation's operator to approve the renewals that wait",
        )

    def start(self) -> None:
        """Begins to look after the certificate."""
        self._care.start()

    def stop(self) -> None:
        """Ends; a tick under way is ended first."""
        self._care.stop()

    def tick(self, now: datetime) -> None:
        """Asks for a new certificate, or asks again, when it is time. Warns 30, 7 and 1 days before the end, once
        each."""
        tls = self._identity.tls()
        self._metrics.expiry.set(tls.expires_at.timestamp())
        self._ask(renewal_request(self._folder, now=now) if is_due(tls, now) else b"")
        self._care.warn(tls, now)

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
