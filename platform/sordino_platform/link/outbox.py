"""The outgoing frames of a member's stream: which frame is sent next. Pure: no lock, no I/O, no clock.

    while (frame := outbox.next(pending.held)) is None and not outbox.over: ...       # something must change first

Control frames are sent before the chunks of a reply, so that a Pong does not wait behind 92 MB. The reply itself is in
`pending`, because it lasts longer than the stream; this module only knows how much of it was sent. Incoming frames are
in `inbox`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from sordino_platform.link.frames import Cancel, Frame, Goodbye, MessageEnd, ProtocolError
from sordino_platform.link.messages import outgoing
from sordino_platform.link.pending import HeldReply


class Outbox:
    """A member's side of one stream. `opened` is set after the coordinator's Welcome: only then may replies be sent.

    `control_burst` is the most control frames that may wait: a coordinator that causes more answers than it reads is
    faulty.
    """

    def __init__(self, *, control_burst: int) -> None:
        self.opened = False
        self._control: deque[Frame] = deque()
        self._control_burst = control_burst
        self._closing = False
        self._started = 0  # the newest reply that was started on this stream
        self._leaving: tuple[HeldReply, Iterator[Frame]] | None = None

    @property
    def over(self) -> bool:
        """Whether the stream was closed and every waiting frame was sent."""
        return self._closing and not self._control

    def post(self, frame: Frame) -> None:
        """Queues a control frame. Raises ProtocolError when too many wait."""
        if len(self._control) >= self._control_burst:
            raise ProtocolError("frames that are answered faster than they are read")
        self._control.append(frame)

    def close(self, goodbye: Goodbye | None = None) -> None:
        """Sends only the frames that wait already and, as the last frame, `goodbye`."""
        if goodbye is not None:
            self._control.append(goodbye)
        self._closing = True

    def next(self, held: HeldReply | None) -> Frame | None:
        """The frame to send now; None if there is none now, or no more (`over`).

        `held` is the reply that the coordinator still waits for. If it changes during a transfer, the reply was given
        up, and the coordinator is told so. Each reply is sent at most once on a stream.
        """
        if self._control:
            return self._control.popleft()
        if self._closing:
            return None
        if self._leaving is not None and self._leaving[0] is not held:
            given_up, self._leaving = self._leaving[0], None
            return Cancel(given_up.id)
        if self._leaving is None:
            if not self.opened or held is None or held.id == self._started:
                return None
            self._started = held.id
            frames = outgoing(held.parts, id=held.id, kind=held.kind, in_reply_to=held.request.id)
            self._leaving = held, frames
        frame = next(self._leaving[1], None)
        if isinstance(frame, MessageEnd):
            self._leaving = None
        return frame
