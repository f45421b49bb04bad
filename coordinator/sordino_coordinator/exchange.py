"""One exchange: a message to each member of a cohort, and their answers as they arrive, until a deadline.

Works over any Flower `Grid`: ours tells at once when a member is lost; a stock one is only silent until the deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from sordino_coordinator.metrics import Dropped
from sordino_platform.flower.phases import Fields
from sordino_privacy.errors import LinkError

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A member's reply. `seconds` since the exchange began."""

    member: str
    fields: Fields
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A member that gave no usable reply."""

    member: str
    reason: Dropped


class GivenUpError(Exception):
    """The exchange was given up before its deadline, because the coordinator stops."""


def never() -> bool:
    """An exchange that ends only by itself."""
    return False


def exchange(
    grid: Grid,
    nodes: Mapping[str, int],
    content: Callable[[str], RecordDict],
    *,
    message_type: str,
    round: int,
    seconds: float,
    given_up: Callable[[], bool] = never,
) -> Iterator[Answer | Lost]:
    """Sends `content(member)` to each member of `nodes`; yields every one exactly once, answers in order of arrival.

    `nodes` gives a member's Flower node id. One reply is in memory at a time: the caller consumes it before the next.
    Raises GivenUpError once `given_up()` is true.
    """
    started = time.monotonic()
    waiting: dict[str, str] = {}
    for member, node in nodes.items():
        message = Message(content(member), node, message_type, group_id=str(round), ttl=seconds)
        for message_id in grid.push_messages([message]):
            waiting[message_id] = member
    for member in set(nodes) - set(waiting.values()):
        yield Lost(member=member, reason=Dropped.DISCONNECT)
    while waiting and time.monotonic() - started < seconds:
        if given_up():
            raise GivenUpError
        arrived = False
        for reply in grid.pull_messages(list(waiting)):
            member = waiting.pop(reply.metadata.reply_to_message_id, "")
            if not member:
                continue
            arrived = True
            try:
                yield Answer(member=member, fields=Fields(reply), seconds=time.monotonic() - started)
            except LinkError:
                yield Lost(member=member, reason=lost_because(reply))
        if not arrived:
            time.sleep(POLL_SECONDS)
    for member in waiting.values():
        yield Lost(member=member, reason=Dropped.TIMEOUT)


def lost_because(reply: Message) -> Dropped:
    """Our grid puts the link's reason into Flower's error; anything else is an invalid reply."""
    if reply.has_error() and (reply.error.reason or "") in set(Dropped):
        return Dropped(str(reply.error.reason))
    return Dropped.REFUSED if reply.has_error() else Dropped.INVALID
