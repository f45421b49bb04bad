"""What a member does after a stream has ended: whether a retry can help, and how long it waits first. Pure.

After a restart of the coordinator its members must not all come at once, so each wait is drawn with full jitter
(`status.backoff_seconds`). A busy coordinator gives each member its own turn instead.
"""

from __future__ import annotations

from typing import Final

from sordino_platform.link.diagnosis import Diagnosis
from sordino_platform.link.frames import Goodbye, GoodbyeReason
from sordino_platform.link.status import backoff_seconds
from sordino_privacy.errors import LinkError

SETTLED_SECONDS: Final = 30.0
"""A stream that lasted this long, or brought a request, worked: the next wait starts small again."""

FATAL: Final = {
    GoodbyeReason.IDENTITY: "ask the federation's operator whether this member is in the charter and not retired",
    GoodbyeReason.VERSION: "install the release of sordino that the federation runs",
    GoodbyeReason.DUPLICATE: "stop the other process, on this machine or another; an identity must never be copied",
    GoodbyeReason.FENCED: "another process runs with this identity: stop one of them; an identity must never be copied",
}
"""Why a coordinator refuses a member permanently, and what a person has to do."""


def known_end(*, welcomed: bool, goodbye: Goodbye | None, offence: str) -> Diagnosis | None:
    """Why a stream ended, from its last messages; None if only a test of the network can tell (`probe.diagnose`).

    `goodbye` is the coordinator's, `offence` how it broke the protocol, if it did. Raises LinkError when a retry cannot
    help.
    """
    if offence:
        return Diagnosis.offended(offence)
    if goodbye is None:
        return Diagnosis.broken() if welcomed else None
    if goodbye.reason in FATAL:
        text = f": {goodbye.detail}" if goodbye.detail else ""
        raise LinkError(f"the coordinator refuses this member{text}", hint=FATAL[goodbye.reason])
    if goodbye.reason is GoodbyeReason.EXPIRED:
        return None  # the files say whose certificate has expired, and whether the clock is wrong
    return Diagnosis.ended(goodbye.reason.name.lower(), goodbye.detail)


class Backoff:
    """How long a member waits before it tries again. A coordinator may ask for `busy_seconds` at most."""

    def __init__(self, *, busy_seconds: float) -> None:
        self._busy_seconds = busy_seconds
        self._attempt = 0

    def reset(self) -> None:
        """The next wait starts small again."""
        self._attempt = 0

    def note(self, *, welcomed: bool, useful: bool, seconds: float) -> None:
        """A stream has ended: whether it was welcomed or brought a request, and how long it lasted."""
        if useful or (welcomed and seconds > SETTLED_SECONDS):
            self.reset()

    def pause(self, goodbye: Goodbye | None, share: float) -> float:
        """Seconds to wait now. `share` is drawn from [0, 1) for each wait; `goodbye` ended the stream."""
        if goodbye is not None and goodbye.reason is GoodbyeReason.BUSY:
            # Its turns are already spread over time. The wait that it asks for is limited here.
            asked = goodbye.retry_millis / 1000 + backoff_seconds(0, share)
            return min(asked, self._busy_seconds)
        pause = backoff_seconds(self._attempt, share)
        self._attempt += 1
        return pause
