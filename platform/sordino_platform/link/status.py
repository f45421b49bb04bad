"""The state of a member's connection, for a status display, and how long it waits before it tries again."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

BACKOFF_BASE_SECONDS: Final = 0.5
BACKOFF_CAP_SECONDS: Final = 60.0


class LinkState(enum.StrEnum):
    """The states that a status display shows."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    REFUSED = "refused"
    """A retry cannot help until a person acts, so retries are rare. For processes that outlive a link (an agent)."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """`message` and `hint` say why there is no connection; `retry_seconds` is the time until the next try."""

    state: LinkState
    message: str = ""
    hint: str = ""
    retry_seconds: float = 0.0


def backoff_seconds(attempt: int, share: float) -> float:
    """Wait before try number `attempt` (from 0): `share` in [0, 1) of a span that grows exponentially up to a limit.

    "Full jitter", M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
    """
    return share * min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(attempt, 16))
