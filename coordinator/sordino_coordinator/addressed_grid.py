"""What every Flower `Grid` here shares, whatever carries its messages: how one is made, and who counts it."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from sordino_platform.link.events import Direction

Count = Callable[[Direction, str, int], object]
"""Told the direction, the type and the bytes of each message."""


class AddressedGrid(Grid):
    """A grid whose messages say where they go, and nothing of the run: that is the transport's."""

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message of this run, for the node `dst_node_id`; `ttl` in seconds."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)
