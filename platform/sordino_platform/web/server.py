"""uvicorn for every port here: bounded connections, a bounded TLS handshake, and no timer while it is idle."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from sordino_platform.web.connections import BACKLOG, HEAD_SECONDS, HttpConnection


class Server(uvicorn.Server):
    """Serves an ASGI application on bound sockets. `tls` are uvicorn's own arguments for HTTPS.

    An idle server uses no processor time: uvicorn's ten wake-ups a second are switched off.
    """

    def __init__(self, app: Any, *, keep_alive: int = 60, grace: int = 2, **tls: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                interface="asgi3",
                http=HttpConnection,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="error",
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=keep_alive,
                timeout_graceful_shutdown=grace,
                **tls,
            )
        )
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, for the given sockets, with a time limit on a TLS handshake: asyncio's own is a minute."""
        config, loop = self.config, asyncio.get_running_loop()
        state = self.lifespan.state

        def connection() -> HttpConnection:
            return HttpConnection(config=config, server_state=self.server_state, app_state=state)

        limit = HEAD_SECONDS if config.ssl else None
        self.servers = [
            await loop.create_server(
                connection, sock=one, ssl=config.ssl, backlog=BACKLOG, ssl_handshake_timeout=limit
            )
            for one in sockets or []
        ]
        self._loop, self.started = loop, True

    async def main_loop(self) -> None:
        """Waits for `end`."""
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the process, which cleans up. uvicorn would raise them again and end the process before
        that."""
        yield

    def end(self) -> None:
        """Stops serving, or prevents its start. May be called from any thread, and more than once."""
        self.should_exit = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)
