"""Flower's own grid, in the simulation engine or behind a SuperLink: counted as our link is.

docs/flower.md says what such a grid lacks beside our own link. A charter that demands one of those things is refused
before the first round.
"""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from sordino_coordinator.addressed_grid import AddressedGrid, Count
from sordino_platform.charter import Charter
from sordino_platform.flower.shim import Run
from sordino_platform.link import Direction
from sordino_privacy.errors import ConfigurationError


class StockGrid(AddressedGrid):
    """Passes everything on to `grid`; `count` is told the type and the bytes of each message's content."""

    def __init__(self, grid: Grid, *, count: Count) -> None:
        self._grid, self._count = grid, count

    def set_run(self, run: Run) -> None:
        """Takes another run's identity."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Flower's run."""
        return self._grid.run

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that Flower says are there."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends the messages. Returns the ids of those that the engine accepted."""
        batch = list(messages)
        for message in batch:
            self._count(Direction.SENT, message.metadata.message_type, content_bytes(message))
        return self._grid.push_messages(batch)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there."""
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            self._count(Direction.RECEIVED, reply.metadata.message_type, content_bytes(reply))
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Flower's own convenience."""
        return self._grid.send_and_receive(messages, timeout=timeout)


def content_bytes(message: Message) -> int:
    """The bytes of a message's vectors, texts and byte strings; numbers and Flower's envelope are not in them."""
    if not message.has_content():
        return 0
    records = message.content.values()
    vectors = sum(
        len(array.data) for record in records if isinstance(record, ArrayRecord) for array in record.values()
    )
    fields = [value for record in records if isinstance(record, ConfigRecord) for value in record.values()]
    texts = [one for value in fields for one in (value if isinstance(value, list) else [value])]
    return vectors + sum(len(text) for text in texts if isinstance(text, bytes | str))


def require_offered(charter: Charter) -> None:
    """Raises ConfigurationError for a charter whose terms only our own link can keep."""
    if charter.renewals is not None:
        raise ConfigurationError(
            "this charter renews members' certificates over their link, and Flower's transport knows neither: a member "
            "whose certificate ended, or was not renewed, would not be refused",
            hint="hold its rounds with `sordino coordinator up`; what Flower's engines lack: docs/flower.md",
        )
