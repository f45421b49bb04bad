"""A Flower `Grid` over our link: the same public interface as Flower's own, on one mutually authenticated stream each.

A node id derives from the charter's name, so nobody can choose one. The source of a reply is the identity of the
certificate whose stream carried it, never a field of the message: what a reply says of its own sender is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial

from flwr.app import Error, Message, RecordDict

from sordino_coordinator.addressed_grid import AddressedGrid, Count
from sordino_platform.flower import shim
from sordino_platform.flower.codec import ContentCoder, decode_message
from sordino_platform.flower.phases import node_id
from sordino_platform.link.events import Direction
from sordino_platform.link.messages import parts_of, total_of
from sordino_platform.link.server import LinkServer, LostRequest, Result
from sordino_privacy.errors import LinkError

DEFAULT_SECONDS = 3600.0
PULL_SECONDS = 0.5
LINK_ERROR = 1


Arrival = tuple[str, Callable[[], Message]]
"""A reply: the id of the message that it answers, and what decodes it. Decoding raises whatever bytes can cause."""


class LinkGrid(AddressedGrid):
    """Sends through a started `LinkServer`. One thread at a time. `count` is told the type and bytes of each
    message."""

    def __init__(self, server: LinkServer, *, run: int, count: Count) -> None:
        self._count = count
        self._server = server
        self._run = shim.empty_run(run)
        self._coder = ContentCoder()
        self._asked: dict[int, Message] = {}
        self._names: dict[int, str] = {}  # by node id, of all that were ever connected

    def set_run(self, run: shim.Run) -> None:
        """Takes another run's identity."""
        self._run = run

    @property
    def run(self) -> shim.Run:
        """The run; only its id means anything here."""
        return self._run

    def members(self) -> dict[str, int]:
        """The connected members and their node ids."""
        return {name: node_id(name) for name in sorted(self._server.connected())}

    def _member_at(self, node: int) -> str | None:
        """The connected member of that node id. Asked for each message: it must not name them all each time."""
        connected = self._server.connected()
        if node not in self._names:
            self._names.update((node_id(name), name) for name in connected)
        name = self._names.get(node)
        return name if name in connected else None

    def get_node_ids(self) -> Iterable[int]:
        """Node ids of the connected members."""
        return list(self.members().values())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends each message; returns the ids of those that could be sent. Vectors are shared, not copied."""
        return self.push_bounded(messages, reply_bytes=None)

    def push_bounded(
        self, messages: Iterable[Message], *, reply_bytes: int | None, shared: Sequence[bytes] = ()
    ) -> list[str]:
        """`push_messages`, for replies of at most so many bytes: a larger one is refused at its first frame and ends
        its member's stream. None: the link's own limit. `shared` are parts that are in other messages too: they are in
        memory once."""
        sent = []
        for message in messages:
            name = self._member_at(message.metadata.dst_node_id)
            if name is None:
                continue
            message_id = shim.stamp(message)
            seconds = message.metadata.ttl or DEFAULT_SECONDS
            parts = parts_of(self._coder.encode(message, shared))
            try:
                number = self._server.send(name, parts, deadline_seconds=seconds, reply_bytes=reply_bytes)
            except LinkError:
                continue  # it has just gone away: the caller sees that its id is missing
            self._count(Direction.SENT, message.metadata.message_type, total_of(parts))
            message.content = RecordDict()  # what was sent is the link's now
            self._asked[number] = message
            sent.append(message_id)
        return sent

    def arrivals(self, message_ids: Container[str]) -> list[Arrival]:
        """The next reply to one of `message_ids`, or nothing after a short wait: one payload is in memory at a time.
        The caller decides where errors of the decoding are caught."""
        result = self._server.receive(timeout=PULL_SECONDS)
        if result is None:
            return []
        message = self._asked.pop(result.in_reply_to, None)
        if message is None or message.metadata.message_id not in message_ids:
            return []  # a late answer to a phase that is over
        return [(message.metadata.message_id, partial(self._reply, message, result))]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Flower's own: the next reply to one of `message_ids`, decoded, or nothing after a short wait. Raises
        LinkError for a reply that cannot be decoded."""
        return [opened() for _, opened in self.arrivals(set(message_ids))]

    def _reply(self, message: Message, result: Result) -> Message:
        if isinstance(result, LostRequest):
            return Message(Error(LINK_ERROR, result.reason.value), reply_to=message)
        self._count(Direction.RECEIVED, message.metadata.message_type, result.payload.nbytes)
        said = decode_message(result.payload)
        if said.has_error():
            return Message(Error(LINK_ERROR, "refused"), reply_to=message)
        return Message(said.content, reply_to=message)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Flower's own convenience: every reply until all are there or the messages' own deadlines pass."""
        waiting, replies = set(self.push_messages(messages)), []
        while waiting:
            for reply in self.pull_messages(list(waiting)):
                waiting.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
        return replies
