"""What leaves on one member's stream, and in which order. Reads no clock and knows no gRPC.

Control frames leave before chunks, so that a Pong does not wait behind 92 MB. Requests are the mailbox's, because they
outlive the stream; here is only how much of the one under way has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from sordino_platform.link.ending import StreamEnding
from sordino_platform.link.frames import Frame, FrameKind, GoodbyeReason, MessageEnd
from sordino_platform.link.mailbox import Mailbox, Outgoing
from sordino_platform.link.messages import outgoing

LEAST_SECONDS = 0.001  # a deadline of 0 is none, on the wire


class Departure:
    """The frames for one member. `control_burst` is how many control frames may wait to be read."""

    def __init__(self, mailbox: Mailbox, *, control_burst: int) -> None:
        self._mailbox = mailbox
        self._control: deque[Frame] = deque()
        self._control_burst = control_burst
        self._leaving: tuple[Outgoing, Iterator[Frame]] | None = None
        self._started = 0  # the last request of which this stream has carried the start
        self._closed = False

    def carries(self, request: Outgoing) -> bool:
        """Whether this request is in the middle of its transfer."""
        return self._leaving is not None and self._leaving[0] is request

    @property
    def busy(self) -> bool:
        """Whether any request is in the middle of its transfer."""
        return self._leaving is not None

    def post(self, frame: Frame) -> None:
        """Lets a control frame leave. Raises StreamEnding for a member that has too many waiting to be read."""
        if len(self._control) >= self._control_burst:
            raise StreamEnding(GoodbyeReason.UNRESPONSIVE, "too many frames wait to be read")
        self._control.append(frame)

    def abandon(self, request: Outgoing) -> None:
        """Sends no more of this request."""
        if self.carries(request):
            self._leaving = None

    def close(self) -> None:
        """Starts no further request: the mailbox may have another stream by now."""
        self._closed = True

    def next(self, *, now: float, admit: Callable[[], None]) -> Frame | None:
        """The frame to write now; None while there is none.

        `now` is the clock of the requests' deadlines, in seconds. `admit` is asked before a request starts, and raises
        StreamEnding for a member that may not be asked. Each request leaves at most once on a stream.
        """
        if self._control:
            return self._control.popleft()
        if self._leaving is None:
            request = None if self._closed else self._mailbox.next_request()
            if request is None or request.id == self._started:
                return None
            admit()
            seconds = max(LEAST_SECONDS, request.deadline - now)
            frames = outgoing(
                request.parts, id=request.id, kind=FrameKind.REQUEST, deadline_millis=int(seconds * 1000)
            )
            self._leaving, self._started = (request, frames), request.id
        frame = next(self._leaving[1], None)
        if isinstance(frame, MessageEnd):
            self._leaving = None
        return frame
