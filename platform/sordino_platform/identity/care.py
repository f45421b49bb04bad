"""What a process that runs for months does about the end of its own certificate: looks now and then, and warns early.

Both sides do it alike, a member's agent and the coordinator; what each asks for, and of whom, is its own (`look`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from sordino_platform.identity.renewal import ending, warned_days
from sordino_platform.identity.site import TlsCredentials
from sordino_platform.telemetry import log
from sordino_privacy.errors import SordinoError

LOOK_SECONDS = 600.0


class CertificateCare:
    """Calls `look` with the time at once and every ten minutes, on a thread of the name `thread`, from `start` to
    `stop`. `hint` says in a warning what to do."""

    def __init__(self, look: Callable[[datetime], None], *, thread: str, hint: str) -> None:
        self._look, self._hint = look, hint
        self._warned: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=thread, daemon=True)

    def start(self) -> None:
        """Begins to look after the certificate."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; a look under way is ended first."""
        self._stopping.set()
        self._thread.join()

    def warn(self, tls: TlsCredentials, now: datetime) -> None:
        """Logs 30, 7 and 1 days before the end, and at the end, once each."""
        days = warned_days(tls, now)
        if days != self._warned and days is not None:
            log().warning(
                "certificate_expiring",
                error=ending(tls, now),
                expires=f"{tls.expires_at:%Y-%m-%d %H:%M} UTC",
                hint=self._hint,
            )
        self._warned = days

    def _run(self) -> None:
        while True:
            try:
                self._look(datetime.now(UTC))
            except SordinoError as error:  # a full disk: it is tried again, long before the certificate ends
                log().warning("renewal_failed", error=error.message, hint=error.hint)
            except Exception as error:  # noqa: BLE001 - or nobody would look again, and the certificate would end
                log().error("renewal_failed", error=type(error).__name__, hint="it is tried again")
            if self._stopping.wait(LOOK_SECONDS):
                return
