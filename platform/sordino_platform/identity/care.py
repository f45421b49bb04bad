"""Watches the process's own certificate while the process runs for months: checks it regularly and warns early.

A member's agent and the coordinator do this in the same way. What each requests, and from whom, is in its own `look`.
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
    """Calls `look` with the present time, at once and then every ten minutes, on a thread named `thread`, from `start`
    to `stop`. `hint` is the part of a warning that says what to do."""

    def __init__(self, look: Callable[[datetime], None], *, thread: str, hint: str) -> None:
        self._look, self._hint = look, hint
        self._warned: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=thread, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread, after a running `look` has ended."""
        self._stopping.set()
        self._thread.join()

    def warn(self, tls: TlsCredentials, now: datetime) -> None:
        """Logs a warning 30, 7 and 1 days before the end, and at the end, once each."""
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
            except SordinoError as error:  # such as a full disk: tried again, long before the end
                log().warning("renewal_failed", error=error.message, hint=error.hint)
            except Exception as error:  # noqa: BLE001 - or nobody would look again, and the certificate would end
                log().error("renewal_failed", error=type(error).__name__, hint="it is tried again")
            if self._stopping.wait(LOOK_SECONDS):
                return
