"""A member's mailbox at the coordinator: what it was asked, what it owes, and which stream it has. It outlives streams.

    queued -> current (being sent) -> current (delivered, its reply awaited) -> exactly one Reply or Lost

One request at a time is under way to a member, because a member handles one at a time. Each request yields exactly one
result, unless the caller cancels it.

A second stream of the same identity (FAULTS row 22):
* from the same process (same session nonce, which only that process knows): it is a reconnection; the older stream is
  fenced at once.
* from another process: the older stream is asked for a sign of life. If it gives one within `probe_seconds`, the
  second is refused (DUPLICATE), otherwise the older is fenced (FENCED) and the second takes over.
So a crashed or cut-off machine can be replaced within seconds, and a copied identity cannot push out its owner.

What survives a reconnection: with the same process everything; a request that had not arrived whole is sent again, a
reply that had not is awaited again. With a new process, a request that the old one had received is lost at once
(`disconnect`): the secrets of its half-done work are gone with the old process.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from sordino_platform.link.allowance import Allowance
from sordino_platform.link.ending import StreamEnding
from sordino_platform.link.events import Loss
from sordino_platform.link.frames import Hello
from sordino_platform.link.messages import Part

REMEMBERED_REQUESTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A member's whole answer. `payload` is read-only; it is freed when nothing refers to it."""

    member: str
    in_reply_to: int
    payload: memoryview = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRequest:
    """A request that will have no answer, and why."""

    member: str
    in_reply_to: int
    reason: Loss


Result: TypeAlias = Reply | LostRequest


@dataclass(slots=True, kw_only=True, eq=False)
class Outgoing:
    """A request on its way. `deadline` is in the event loop's clock; `reply_bytes` the most that its reply can have.
    Once it was delivered, its parts are kept no more."""

    id: int
    parts: tuple[Part, ...] = field(repr=False)
    deadline: float
    reply_bytes: int
    delivered: bool = False
    timer: asyncio.TimerHandle | None = None

    def arrived(self) -> None:
        """The member has it, and says so."""
        self.delivered, self.parts = True, ()


class OpenStream(Protocol):
    """What a mailbox and the server ask of the stream that a member has open (stream.py)."""

    def wake(self) -> None:
        """There may be something to send."""

    def end(self, ending: StreamEnding) -> None:
        """Ends the stream soon; the first cause counts."""

    async def ended(self) -> None:
        """Waits until the stream has let go of its mailbox."""

    def abandon(self, request: Outgoing) -> None:
        """The request is not wanted any more."""

    def overdue(self, request: Outgoing) -> None:
        """The request's deadline has passed."""

    def recheck(self) -> None:
        """Ends the stream of a member that may not speak any more."""

    async def alive(self) -> bool:
        """Asks for a sign of life."""


class Mailbox:
    """See the module. Used by the link's event loop only; `deliver` hands results to the owner of the server."""

    def __init__(self, member: str, deliver: Callable[[Result], None], openings: Allowance) -> None:
        self.member = member
        self.session = b""
        self.stream: OpenStream | None = None
        self.opening = asyncio.Lock()
        """Held while a new stream is judged against the present one."""
        self.queue: deque[Outgoing] = deque()
        self.current: Outgoing | None = None
        self.openings = openings
        """How often the member may open a stream."""
        self._deliver = deliver
        self._obsolete: OrderedDict[int, int] = OrderedDict()  # and how long their replies could have been

    def post(self, request: Outgoing) -> None:
        """Queues a request, with the timer of its deadline."""
        self.queue.append(request)
        loop = asyncio.get_running_loop()
        request.timer = loop.call_at(request.deadline, self._expire, request)
        self._wake()

    def next_request(self) -> Outgoing | None:
        """The request to send now: the current one if it has not arrived, else the next if none is awaited."""
        if self.current is None and self.queue:
            self.current = self.queue.popleft()
        return self.current if self.current is not None and not self.current.delivered else None

    def resume(self, hello: Hello, coordinator_session: bytes) -> int:
        """Takes over the state that a new stream announces; returns the request whose reply is awaited, or 0."""
        if hello.session != self.session:
            self.session = hello.session
            if self.current is not None and self.current.delivered:
                self.lose(self.current, Loss.DISCONNECT)
        elif self.current is not None:
            if hello.coordinator_session == coordinator_session and hello.received >= self.current.id:
                self.current.arrived()
            elif self.current.delivered:
                self.lose(self.current, Loss.INVALID)  # it acknowledged what it says now that it never had
        return self.current.id if self.current is not None and self.current.delivered else 0

    def awaited(self, request_id: int) -> Outgoing | None:
        """The current request, if this is its id and it was delivered."""
        current = self.current
        return current if current is not None and current.delivered and current.id == request_id else None

    def obsolete(self, request_id: int) -> bool:
        """Whether the request was asked of this member and is not wanted any more: to speak of it is no offence."""
        return request_id in self._obsolete

    def late(self, request_id: int) -> int | None:
        """The most bytes that a late reply to an obsolete request may have; None for any other, and the second time:
        one late reply is no offence, a stream of them would be."""
        return self._obsolete.pop(request_id, None)

    def _outdate(self, request: Outgoing) -> None:
        self._obsolete[request.id] = request.reply_bytes
        while len(self._obsolete) > REMEMBERED_REQUESTS:
            self._obsolete.popitem(last=False)

    def answered(self, request: Outgoing, payload: memoryview) -> None:
        """The reply arrived whole."""
        self._forget(request)
        self._deliver(Reply(member=self.member, in_reply_to=request.id, payload=payload))

    def lose(self, request: Outgoing, reason: Loss) -> None:
        """There will be no reply."""
        self._forget(request)
        self._outdate(request)
        self._deliver(LostRequest(member=self.member, in_reply_to=request.id, reason=reason))

    def lose_all(self, reason: Loss) -> None:
        """The current request and all that wait are lost."""
        for request in [*filter(None, [self.current]), *self.queue]:
            self.lose(request, reason)

    def cancel(self, request_id: int) -> bool:
        """Gives a request up without a result; False if it is not here (any more)."""
        for request in [*filter(None, [self.current]), *self.queue]:
            if request.id == request_id:
                under_way = request is self.current
                self._forget(request)
                self._outdate(request)
                if under_way and self.stream is not None:
                    self.stream.abandon(request)
                return True
        return False

    def _forget(self, request: Outgoing) -> None:
        if request.timer is not None:
            request.timer.cancel()
        if request is self.current:
            self.current = None
        else:
            self.queue.remove(request)
        self._wake()

    def _expire(self, request: Outgoing) -> None:
        under_way = request is self.current
        self.lose(request, Loss.DISCONNECT if self.stream is None else Loss.TIMEOUT)
        if under_way and self.stream is not None:
            self.stream.overdue(request)

    def _wake(self) -> None:
        if self.stream is not None:
            self.stream.wake()
