"""Many members' links on one thread: the link's frames, its TLS and its sizes, without the threads of each.

A real member has a process and `LinkClient` to itself. Five hundred of those in one process are two thousand threads
that wait for one interpreter, and miss every deadline on the way. Here each member has its own connection and
certificate, and what is said on it is the same; a stream that breaks is a new process's next time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import grpc
from grpc import aio

from sordino_platform.link.dialling import channel_options, credentials_of
from sordino_platform.link.frames import (
    METHOD,
    VERSION_MAX,
    VERSION_MIN,
    Ack,
    Frame,
    FrameKind,
    Goodbye,
    GoodbyeReason,
    Hello,
    MessageChunk,
    MessageEnd,
    MessageStart,
    Ping,
    Pong,
    Welcome,
    decode_frame,
    encode_frame,
)
from sordino_platform.link.limits import SESSION_BYTES, Limits
from sordino_platform.link.messages import Assembly, MemoryPayload, Payload, outgoing, parts_of
from sordino_platform.link.status import backoff_seconds
from sordino_platform.link.tls import ClientTls
from sordino_privacy.errors import SordinoError

LIMITS: Final = Limits()
AT_A_TIME: Final = 2
"""How many members of a process answer at the same time. If all did, all would be half done and none finished."""
BROKEN: Final = (SordinoError, grpc.RpcError, aio.BaseError, asyncio.InvalidStateError)


class LeavesError(Exception):
    """The member hangs up in place of an answer."""


class LinkThread:
    """The thread that all links of a process run on."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.turns = asyncio.Semaphore(AT_A_TIME)
        threading.Thread(target=self._loop.run_forever, name="links", daemon=True).start()

    def open(self, links: Iterable[CrowdLink]) -> None:
        """Runs these links until their members leave."""
        for link in links:
            asyncio.run_coroutine_threadsafe(link.run(), self._loop)


class CrowdLink:
    """One member's link. `answer` gives the reply to a request's payload, or raises LeavesError."""

    def __init__(
        self, thread: LinkThread, target: str, *, tls: ClientTls, answer: Callable[[memoryview], Payload]
    ) -> None:
        self.connected = False
        self.over = False
        self._turns, self._target, self._tls, self._answer = thread.turns, target, tls, answer
        self._ids = itertools.count(1)
        self._asked_to_wait = 0.0

    async def run(self) -> None:
        """Connects, answers and connects again until the member leaves."""
        attempt, random = 0, secrets.SystemRandom()
        while True:
            self._asked_to_wait = 0.0
            welcomed = await self._one_stream()
            if self.over:
                return
            attempt = 0 if welcomed or self._asked_to_wait else attempt + 1
            await asyncio.sleep(self._asked_to_wait + backoff_seconds(attempt, random.random()))

    async def _one_stream(self) -> bool:
        """Runs one stream to its end. Whether the coordinator had welcomed it."""
        options = channel_options(self._target, LIMITS)
        async with aio.secure_channel(self._target, credentials_of(self._tls), options=options) as channel:
            open_stream: Any = channel.stream_stream(METHOD)
            stream = _Stream(open_stream())
            try:
                return await self._talk(stream)
            except BROKEN:
                return self.connected
            finally:
                self.connected = False

    async def _talk(self, stream: _Stream) -> bool:
        session = secrets.token_bytes(SESSION_BYTES)
        await stream.write(
            Hello(
                version_min=VERSION_MIN,
                version_max=VERSION_MAX,
                software_version="0",
                session=session,
                coordinator_session=b"",
                received=0,
            )
        )
        assembly: Assembly | None = None
        answers = set[asyncio.Task[None]]()
        try:
            while (frame := await stream.read()) is not None:
                match frame:
                    case Welcome():
                        self.connected = True
                    case MessageStart():
                        assembly = Assembly(frame, MemoryPayload())
                    case MessageChunk() if assembly is not None:
                        assembly.add(frame)
                    case MessageEnd() if assembly is not None:
                        payload, asked = assembly.finish(frame), assembly.start.id
                        assembly = None
                        await stream.write(Ack(asked))
                        task = asyncio.create_task(self._reply(stream, asked, payload))
                        answers.add(task)
                        task.add_done_callback(answers.discard)
                    case Ping():
                        await stream.write(Pong(frame.nonce))
                    case Goodbye():
                        self._asked_to_wait = frame.retry_millis / 1000
                        break
        finally:
            for task in answers:
                task.cancel()
        return self.connected

    async def _reply(self, stream: _Stream, asked: int, payload: memoryview) -> None:
        # The reader of the stream must learn that it broke, too.
        async with self._turns:
            with contextlib.suppress(*BROKEN):
                await self._say(stream, asked, payload)

    async def _say(self, stream: _Stream, asked: int, payload: memoryview) -> None:
        kind, said = FrameKind.REPLY, parts_of(b"")
        try:
            said = parts_of(self._answer(payload))
        except LeavesError:
            self.over = True
            await stream.write(Goodbye(GoodbyeReason.SHUTDOWN))
            await stream.close()
            return
        except SordinoError:
            kind = FrameKind.FAILURE
        for frame in outgoing(said, id=next(self._ids), kind=kind, in_reply_to=asked):
            await stream.write(frame)
            await asyncio.sleep(0)


class _Stream:
    """Frames of one call."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._writing = asyncio.Lock()

    async def write(self, frame: Frame) -> None:
        async with self._writing:
            await self._call.write(encode_frame(frame))

    async def read(self) -> Frame | None:
        raw = await self._call.read()
        return decode_frame(raw) if isinstance(raw, bytes) else None

    async def close(self) -> None:
        async with self._writing:
            await self._call.done_writing()
