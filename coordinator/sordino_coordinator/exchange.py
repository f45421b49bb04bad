"""One exchange: a message to each member of a cohort, and their answers as they arrive, until a deadline.

Works over any Flower `Grid`. Ours says at once when a member is lost, and refuses a reply that is too large at its
first frame; a stock one is silent until the deadline. A reply's content is read in `sordino_coordinator.boundary` and
nowhere else.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from sordino_coordinator.boundary import Accept, Answered, LostMember, judge
from sordino_coordinator.grid import Arrival, LinkGrid
from sordino_coordinator.metrics import Dropped

POLL_SECONDS = 0.1
UNDER_WAY = 64
"""How many members of a stock grid are asked at a time. This bounds the memory of this process, whatever their number.
Silent members do not keep others from being asked: by half of the deadline all have been."""
RETURNS = 8
"""How often a member that was cut off is asked again in one exchange: each time costs a whole model."""


class GivenUpError(Exception):
    """The exchange was given up before its deadline, because the coordinator stops."""


def never() -> bool:
    """The default of `given_up`: the exchange is never given up."""
    return False


def nothing_shared(_: str) -> Sequence[bytes]:
    """The default of `shared`: no message has anything in common with another."""
    return ()


def exchange(
    grid: Grid,
    nodes: Mapping[str, int],
    content: Callable[[str], RecordDict],
    accept: Accept,
    *,
    message_type: str,
    round: int,
    seconds: float,
    reply_bytes: Callable[[str], int],
    given_up: Callable[[], bool] = never,
    rejoin: bool = False,
    enough: Callable[[], bool] = never,
    shared: Callable[[str], Sequence[bytes]] = nothing_shared,
) -> Iterator[Answered | LostMember]:
    """Sends `content(member)` to each member of `nodes`; yields every one exactly once, answers in order of arrival.

    `nodes` gives a member's Flower node id, `reply_bytes` the most that its reply can have: a larger one is refused
    before it is received. One reply is in memory at a time, and `accept` has consumed it when its member is yielded.
    With `rejoin` a member that was cut off or restarted is asked again when it is back, for as long as the exchange
    waits for anybody else. Once `enough()` is true, nobody is waited for. `shared(member)` are long parts of its
    content that others have too, in their order: on our link they are in memory once. Raises GivenUpError once
    `given_up()` is true, and StorageError.
    """
    started = time.monotonic()
    waiting: dict[str, str] = {}
    away: set[str] = set()
    sent = Counter[str]()

    def send(member: str) -> bool:
        left = max(seconds - (time.monotonic() - started), POLL_SECONDS)
        message = Message(content(member), nodes[member], message_type, group_id=str(round), ttl=left)
        sent[member] += 1
        ids = list(push(grid, message, reply_bytes(member), shared(member)))
        waiting.update(dict.fromkeys(ids, member))
        return bool(ids)

    later = deque(nodes)

    def most() -> int:
        # Our own link shares a broadcast's bytes; a stock grid holds a copy for each message that is under way.
        if isinstance(grid, LinkGrid):
            return len(nodes)
        return UNDER_WAY + int(2 * len(nodes) * (time.monotonic() - started) / seconds)

    def send_more() -> None:
        while later and len(waiting) < most():
            member = later.popleft()
            if not send(member):
                away.add(member)

    send_more()
    late = Dropped.TIMEOUT
    while (waiting or later) and time.monotonic() - started < seconds:
        if enough():
            late = Dropped.SPARE
            break
        if given_up():
            raise GivenUpError
        if rejoin and away:
            here = set(grid.get_node_ids())
            for member in sorted(name for name in away if nodes[name] in here and sent[name] <= RETURNS):
                send(member)
            away -= set(waiting.values())
        arrived = False
        for message_id, opened in arrivals(grid, waiting):
            member = waiting.pop(message_id, "")
            if not member:
                continue
            arrived = True
            item = judge(member, opened, accept, seconds=time.monotonic() - started)
            if rejoin and isinstance(item, LostMember) and item.reason is Dropped.DISCONNECT:
                away.add(member)
            else:
                yield item
        send_more()
        if not arrived:
            time.sleep(POLL_SECONDS)
    for member in (*waiting.values(), *later):
        yield LostMember(member=member, reason=late)
    for member in sorted(away):
        yield LostMember(member=member, reason=Dropped.DISCONNECT)


def push(grid: Grid, message: Message, reply_bytes: int, shared: Sequence[bytes]) -> Iterable[str]:
    """Sends a message; its id, or nothing when its receiver is not there. A stock grid cannot bound a reply."""
    if isinstance(grid, LinkGrid):
        return grid.push_bounded([message], reply_bytes=reply_bytes, shared=shared)
    return grid.push_messages([message])


def arrivals(grid: Grid, waiting: Mapping[str, str]) -> list[Arrival]:
    """The replies that are there, each with what it answers, not yet opened. A stock grid has opened them already."""
    if isinstance(grid, LinkGrid):
        return grid.arrivals(waiting)
    replies = grid.pull_messages(list(waiting))
    return [(reply.metadata.reply_to_message_id, partial(_already, reply)) for reply in replies]


def _already(reply: Message) -> Message:
    return reply
