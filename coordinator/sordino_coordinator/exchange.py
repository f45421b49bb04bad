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
    rejoin: bool = False,
) -> Iterator[Answer | Lost]:
    """Sends `content(member)` to each member of `nodes`; yields every one exactly once, answers in order of arrival.

    `nodes` gives a member's Flower node id. One reply is in memory at a time: the caller consumes it before the next.
    With `rejoin` a member that was cut off or restarted is asked again when it is back, for as long as the exchange
    waits for anybody else. Raises GivenUpError once `given_up()` is true.
    """
    started = time.monotonic()
    waiting: dict[str, str] = {}
    away: set[str] = set()

    def send(member: str) -> None:
        left = max(seconds - (time.monotonic() - started), POLL_SECONDS)
        message = Message(content(member), nodes[member], message_type, group_id=str(round), ttl=left)
        for message_id in grid.push_messages([message]):
            waiting[message_id] = member

    for member in nodes:
        send(member)
    away |= set(nodes) - set(waiting.values())
    while waiting and time.monotonic() - started < seconds:
        if given_up():
            raise GivenUpError
        if rejoin and away:
            here = set(grid.get_node_ids())
            for member in sorted(name for name in away if nodes[name] in here):
                send(member)
            away -= set(waiting.values())
        arrived = False
        for reply in grid.pull_messages(list(waiting)):
            member = waiting.pop(reply.metadata.reply_to_message_id, "")
            if not member:
                continue
            arrived = True
            try:
                yield Answer(member=member, fields=Fields(reply), seconds=time.monotonic() - started)
            except LinkError:
                reason = lost_because(reply)
                if rejoin and reason is Dropped.DISCONNECT:
                    away.add(member)
                else:
                    yield Lost(member=member, reason=reason)
        if not arrived:
            time.sleep(POLL_SECONDS)
    for member in waiting.values():
        yield Lost(member=member, reason=Dropped.TIMEOUT)
    for member in sorted(away):
        yield Lost(member=member, reason=Dropped.DISCONNECT)


def lost_because(reply: Message) -> Dropped:
    """Our grid puts the link's reason into Flower's error; anything else is an invalid reply."""
    if reply.has_error() and (reply.error.reason or "") in set(Dropped):
        return Dropped(str(reply.error.reason))
    return Dropped.REFUSED if reply.has_error() else Dropped.INVALID
