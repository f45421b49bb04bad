"""The copy for a standby as an HTTP answer: written by a thread, sent by the event loop, a block at a time.

The copy ends if the follower goes away or takes nothing for STALL_SECONDS. The stream then lacks its last entry, by
which the follower knows a whole copy (sordino_coordinator.control.copying).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import IO, Final, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sordino_coordinator.control.copying import Stand, write_copy
from sordino_platform.telemetry import log
from sordino_platform.web.connections import CUT
from sordino_privacy.errors import SordinoError

STALL_SECONDS: Final = 10.0


class CopyResponse(Response):
    """Sends what a follower that stands at `stand` lacks, made on a thread of `pool`. `counted` is told the outcome
    when the stream has ended, ok or invalid; it is not called if the follower went away."""

    media_type = "application/x-tar"

    def __init__(
        self,
        folder: Path,
        stand: Stand,
        *,
        pool: Executor,
        counted: Callable[[str], None],
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._folder, self._stand, self._pool, self._counted = folder, stand, pool, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream. If it ends early, nothing else is affected."""
        loop = asyncio.get_running_loop()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        out = SendingFile(send, loop)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            out.gone.set()

        watching = asyncio.create_task(watch())
        try:
            await loop.run_in_executor(self._pool, self._write, out)
        except SordinoError as error:
            log().error("copy_failed", error=error.message)
            self._counted("invalid")
        except (OSError, asyncio.CancelledError):
            # The follower went away or takes nothing, or this process stops.
            out.gone.set()
            scope[CUT]()
            await watching
            return
        else:
            self._counted("ok")
        finally:
            watching.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _write(self, out: SendingFile) -> None:
        write_copy(self._folder, self._stand, cast(IO[bytes], out))


class SendingFile:
    """A file that sends what is written to it, from another thread than the event loop's. Once `gone` is set, writing
    raises ConnectionAbortedError; TimeoutError when nothing is taken for STALL_SECONDS."""

    def __init__(self, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        self._send, self._loop = send, loop
        self.gone = threading.Event()

    def write(self, data: bytes) -> int:
        """Waits until the connection has room for `data`."""
        if self.gone.is_set():
            raise ConnectionAbortedError("nobody takes the copy any more")
        sending = asyncio.run_coroutine_threadsafe(self._sent(data), self._loop)
        try:
            sending.result(STALL_SECONDS)
        except BaseException:
            self.gone.set()  # what tarfile still writes when it closes must not wait again
            sending.cancel()
            raise
        return len(data)

    async def _sent(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
