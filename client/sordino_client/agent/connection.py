"""The link for the life of an agent.

A refusal does not end the agent, because completions are useful without a coordinator. A link that is refused (this
member was retired, its certificate has ended, another process has its identity, a file is wrong) waits for a person. It
is tried again after REFUSED_SECONDS, because the other side may have been mended, and at once when this machine changes
something that matters: a certificate was installed, a charter was accepted.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

from sordino_platform.identity.site import CHARTERS, TLS
from sordino_platform.link import LinkClient, LinkState, LinkStatus
from sordino_privacy.errors import SordinoError

REFUSED_SECONDS = 900.0
LOOK_SECONDS = 10.0


class Connection:
    """Makes a link, and another one after each refusal. `note` is told each status."""

    def __init__(
        self, folder: Path, make: Callable[[], LinkClient], note: Callable[[LinkStatus], None]
    ) -> None:
        self._folder, self._make, self._note = folder, make, note
        self._stopping = threading.Event()
        self._renewal = b""
        self._link = make()

    def run(self) -> None:
        """Keeps the member connected until `stop`. Raises nothing that a link raises."""
        while not self._stopping.is_set():
            try:
                self._link.run()
            except SordinoError as refusal:
                self._wait(refusal)
                self._link = self._make()
                self._link.ask_renewal(self._renewal)

    def stop(self) -> None:
        """Ends `run`. Any thread, or a signal handler."""
        self._stopping.set()
        self._link.stop()

    def ask_renewal(self, request: bytes) -> None:
        """The same as the link's, and kept for later links."""
        self._renewal = request
        self._link.ask_renewal(request)

    def _wait(self, refusal: SordinoError) -> None:
        # With jitter, so that members that were refused together do not come back together.
        seconds = REFUSED_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing
        self._note(
            LinkStatus(
                state=LinkState.REFUSED, message=refusal.message, hint=refusal.hint, retry_seconds=seconds
            )
        )
        before, waited = self._deciding(), 0.0
        while waited < seconds and not self._stopping.wait(LOOK_SECONDS) and self._deciding() == before:
            waited += LOOK_SECONDS

    def _deciding(self) -> tuple[int, ...]:
        """When the files that a refusal depends on were last written."""
        paths = [self._folder / TLS, self._folder / CHARTERS]
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
