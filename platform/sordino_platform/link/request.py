"""A request as a member's handler sees it: its payload, its deadline, and whether the reply is still wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from sordino_platform.link.messages import Payload


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """The coordinator's request. `payload` is read-only."""

    id: int
    payload: memoryview = field(repr=False)
    deadline: float
    """On this machine's monotonic clock."""
    _given_up: threading.Event = field(default_factory=threading.Event, repr=False)
    _told: list[Callable[[], None]] = field(default_factory=list, repr=False)

    @property
    def remaining(self) -> float:
        """Seconds until nobody wants the reply any more; never negative."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether the reply is not wanted any more. A slow handler must check this from time to time, and return."""
        return self._given_up.is_set() or time.monotonic() >= self.deadline

    def wait(self, seconds: float) -> bool:
        """Sleeps up to `seconds`, or less if the request is given up; returns `cancelled`."""
        self._given_up.wait(min(seconds, self.remaining))
        return self.cancelled

    def when_given_up(self, act: Callable[[], None]) -> None:
        """Calls `act` once, on its own thread, when the reply is not wanted any more.

        It is for a handler that waits for something else and so cannot check `cancelled`.
        """
        self._told.append(act)
        if self._given_up.is_set():
            self._tell()

    def give_up(self) -> None:
        """The reply is not wanted any more."""
        self._given_up.set()
        self._tell()

    def _tell(self) -> None:
        while self._told:
            threading.Thread(target=self._told.pop(), name="sordino-given-up", daemon=True).start()


Handler: TypeAlias = Callable[[Request], Payload | None]
"""Answers a request; None is an empty reply. An exception tells the coordinator only that handling failed."""
