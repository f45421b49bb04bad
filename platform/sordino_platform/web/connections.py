"""One connection: how long a request's head may take, and which connection is closed when a listener is full.

A connection is *unproved* until the application has seen a token on it (the callable PROVED in the request's scope). A
client without a token can open any number of connections and send half a request on each. So:

* a request's head must be complete within HEAD_SECONDS of its first byte; for the first request, of the connection's
  start;
* a listener holds ROOM connections. A further connection replaces the oldest unproved one, whatever that is doing. When
  all are proved, it replaces the one that has been idle for longest. When all are busy, it is closed itself.

Each listener counts separately: a flood on the TCP port does not affect the Unix socket, which only its owner can open.
The kernel's queue (BACKLOG) is far shorter than ROOM. So an honest connection is always read before enough strangers
are accepted to push it out.
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
"""Also in the scope: closes the connection at once and drops unsent data. For an answer that the client does not
read."""


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
        """Takes one of the listener's places, or is closed at once."""
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
        """Bytes of a request have arrived, so its head has begun."""
        if self._head is None and not self.works:
            self._expect_head()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Frees the place."""
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
