"""`GET /metrics` for a scraper on the same machine, but not for a web page in a browser there.

The figures describe private data (a member's training loss), so the port listens on loopback only. A request that a web
page could send is refused by Host, Origin and Fetch-Metadata before anything is written.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from sordino_platform.telemetry import Metrics
from sordino_platform.web.callers import STRANGER_STATUS, RequestHeaders, Stranger, stranger
from sordino_platform.web.server import Server
from sordino_privacy.errors import PortInUseError

LOOPBACK: Final = "127.0.0.1"
STOP_SECONDS: Final = 30.0


class MetricsServer:
    """Serves `metrics` from construction until `stop`. `refused` counts refused requests, by reason.

    Raises PortInUseError.
    """

    def __init__(
        self, metrics: Metrics, *, port: int, refused: Callable[[Stranger], None] = lambda _: None
    ) -> None:
        self._metrics, self._refused = metrics, refused
        try:
            self._socket = socket.create_server((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            raise PortInUseError(
                f"port {port} on {LOOPBACK} cannot be used for metrics: {error}",
                hint="set another metrics_port in the settings file, or 0 for any free port",
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._server = Server(self._answer, keep_alive=15, grace=1)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="metrics", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Closes the port."""
        self._server.end()
        self._thread.join(STOP_SECONDS)

    async def _serve(self) -> None:
        await self._server.serve([self._socket])

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        head = RequestHeaders(scope["headers"])
        reason = stranger(head)
        if reason is not None:
            self._refused(reason)
            status, body = STRANGER_STATUS[reason], b"refused\n"
        elif scope["path"] == "/metrics" and scope["method"] == "GET":
            status, body = 200, self._metrics.text()
        else:
            status, body = 404, b"not found\n"
        kind = CONTENT_TYPE_LATEST.encode() if status == 200 else b"text/plain"
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        if b"content-length" in head or b"transfer-encoding" in head:  # a body that nobody will read
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
