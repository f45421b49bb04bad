"""One connection: how long it may take to ask, and which one gives way when a listener is full.

A connection is *unproved* until the application has seen a token on it (the callable PROVED in the request's scope).
Whoever holds no token can open connections without end and send half a request on each. So:

* a request's head must be whole within HEAD_SECONDS of its first byte, the first one of the connection's beginning;
* a listener holds ROOM connections. One more takes the place of the oldest unproved one, whatever that is doing;
  where all are proved, of the one that has been idle for longest; where all of them work, it is closed itself.

Each listener counts for itself: a flood on the TCP port leaves the Unix socket, which only its owner can open, alone.
The kernel's queue (BACKLOG) is far shorter than the room, so an honest connection is always read before as many
strangers as could push it out were even accepted.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 5.0
ROOM: Final = 160
BACKLOG: Final = 64
PROVED: Final = "sordino.proved"
CUT: Final = "sordino.cut"
"""In the scope too: ends the connection at once, with whatever was not sent yet. For an answer that nobody takes."""


class HttpConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection with the limits above."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.proved = False
        self.listener: Any = None
        self._served = self.app
        self.app = self._serve
        self._head: asyncio.TimerHandle | None = None

    @property
    def works(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a place, or gives way at once."""
        super().connection_made(transport)
        self.listener = transport.get_extra_info("sockname")
        self.since = self.loop.time()
        held = [
            one
            for one in self.connections
            if isinstance(one, HttpConnection)
            and one.listener == self.listener
            and not one.transport.is_closing()
        ]
        if len(held) > ROOM:
            self._giving_way(held).transport.abort()
        self._expect_head()

    def _giving_way(self, held: list[HttpConnection]) -> HttpConnection:
        others = [one for one in held if one is not self]
        unproved = [one for one in others if not one.proved]
        idle = unproved or [one for one in others if not one.works]
        return min(idle, key=lambda one: one.since, default=self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request: its head has begun."""
        if self._head is None and not self.works:
            self._expect_head()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The place is free."""
        self._head_came()
        super().connection_lost(exc)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        self._head_came()
        scope[PROVED] = self._prove
        scope[CUT] = self.transport.abort
        await self._served(scope, receive, send)
        self.since = self.loop.time()

    def _prove(self) -> None:
        self.proved = True

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
