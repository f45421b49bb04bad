"""What a member owes the coordinator, over all connections: the waiting request, the running one and the held reply.

Each request is answered once, even if connections break: a reply that was not acknowledged is kept and sent again, and
a repeated request is recognised by its number. A new session means that the coordinator was restarted: its earlier
requests are no longer open.

Holds no lock and starts nothing: the caller (`sordino_platform.link.client`) holds its condition.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sordino_platform.link.frames import FrameKind, Welcome
from sordino_platform.link.messages import Part
from sordino_platform.link.request import Request


@dataclass(slots=True, kw_only=True, eq=False)
class HeldReply:
    """A reply that the coordinator has not acknowledged."""

    id: int
    request: Request
    kind: FrameKind
    parts: tuple[Part, ...]


class Pending:
    """What a member owes.

    `received` is the number of the newest request of the session. `session` is the coordinator's; empty before the
    first Welcome.
    """

    def __init__(self) -> None:
        self.session = b""
        self.received = 0
        self.waiting: Request | None = None
        self.held: HeldReply | None = None
        self._running: Request | None = None
        self._ids = itertools.count(1)

    def resume(self, welcome: Welcome) -> None:
        """A connection was made: keeps only the request that the coordinator still waits for, if any."""
        if welcome.session != self.session:
            self.session, self.received = welcome.session, 0
            self.give_up()
        else:
            self.give_up(but=welcome.awaiting)

    def arrived(self, request: Request) -> None:
        """A new request. The coordinator has only one open request per member, so an older one is no longer wanted."""
        self.received = request.id
        self.give_up()
        self.waiting = request

    def begin(self) -> Request | None:
        """Takes the waiting request, to handle it now."""
        self._running, self.waiting = self.waiting, None
        return self._running

    def answered(self, request: Request, kind: FrameKind, parts: tuple[Part, ...]) -> bool:
        """Holds the reply to the request that ran, unless it was given up. Returns whether the reply is held."""
        self._running = None
        if request.cancelled:
            return False
        self.held = HeldReply(id=next(self._ids), request=request, kind=kind, parts=parts)
        return True

    def acknowledged(self, reply: int) -> None:
        """The coordinator has that reply."""
        if self.held is not None and self.held.id == reply:
            self.held = None

    def give_up(self, but: int = 0) -> None:
        """Gives up every waiting, running or answered request except `but`."""
        if self.waiting is not None and self.waiting.id != but:
            self.waiting.give_up()
            self.waiting = None
        if self._running is not None and self._running.id != but:
            self._running.give_up()
        if self.held is not None and self.held.request.id != but:
            self.held.request.give_up()
            self.held = None
