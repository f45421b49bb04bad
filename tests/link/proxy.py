"""A TCP proxy that misbehaves on purpose: latency, rate, stall, reset, cut after so many bytes (Toxiproxy's toxics).

`ConnectProxy` is asked first, by HTTP's CONNECT, as the proxies of companies are.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

SLICE = 16 * 1024


class Proxy:
    """Forwards connections to 127.0.0.1:`port`. Toxics may be changed while it runs; upstream is member to coordinator.

    `latency` seconds per slice in each direction; `rate` bytes per second upstream, 0 for no limit; `cut_after`
    upstream bytes (over all connections) until everything is reset once.
    """

    def __init__(self, port: int) -> None:
        self._upstream_port = port
        self.latency = 0.0
        self.rate = 0.0
        self.cut_after: int | None = None
        self.passed_upstream = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def stall(self) -> None:
        """Holds every byte, in both directions, with the connections open: a black hole."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def flow(self) -> None:
        """Ends the stall."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def reset(self) -> None:
        """Ends every connection with a TCP reset."""
        self._loop.call_soon_threadsafe(self._reset)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._reset()
        self._server.close()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def _reset(self) -> None:
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        pumps: list[Coroutine[Any, Any, None]] = [
            self._pump(reader, up_writer, upstream=True),
            self._pump(up_reader, writer, upstream=False),
        ]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*pumps)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upstream: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(SLICE):
                await self._flowing.wait()
                if self.latency:
                    await asyncio.sleep(self.latency)
                if upstream:
                    if self.rate:
                        await asyncio.sleep(len(data) / self.rate)
                    self.passed_upstream += len(data)
                    if self.cut_after is not None and self.passed_upstream >= self.cut_after:
                        self.cut_after = None
                        self._reset()
                        return
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.transport.close() if not writer.is_closing() else None


class ConnectProxy(Proxy):
    """An HTTP proxy that answers `CONNECT` with `status`, and with 200 leads every name to 127.0.0.1:`port`."""

    def __init__(self, port: int, *, status: str = "200 Connection established") -> None:
        super().__init__(port)
        self.status = status
        self.requests: list[bytes] = []

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError:
            writer.transport.abort()
            return
        writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        await writer.drain()
        if self.status.startswith("200"):
            await super()._connected(reader, writer)
        else:
            writer.close()
