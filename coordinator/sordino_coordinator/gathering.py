"""Before a round: finds which members are connected, which are ready for the offered round, and when there are enough
to begin."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flwr.app import RecordDict
from flwr.serverapp import Grid

from sordino_coordinator.beginning import must_yield
from sordino_coordinator.behind import require_not_behind
from sordino_coordinator.boundary import LostMember, MemberReply
from sordino_coordinator.bringing import bring_forward
from sordino_coordinator.control.live import Doing
from sordino_coordinator.epochs import lacking
from sordino_coordinator.exchange import exchange, never
from sordino_coordinator.federation import Federation
from sordino_coordinator.grid import LinkGrid
from sordino_coordinator.noted import keep_ledger_head, note_tenure, note_unready
from sordino_coordinator.standing import MemberStanding
from sordino_platform.flower.codec import ENVELOPE_BYTES
from sordino_platform.flower.phases import HELLO, node_id
from sordino_platform.offer import Offer, OfferAnswer
from sordino_privacy.secagg import IdentityError

HELLO_SECONDS = 10.0
HELLO_SECONDS_EACH = 0.1
"""An offer's deadline, and the time that each asked member adds to it: a thousand answers are signed, sent and read one
after the other, perhaps all on this machine. Silent members do not use it up (`Lull`)."""
ANSWER_BUYS_SECONDS = 0.5
"""The time that an answer adds to the wait for the next one, which is HELLO_SECONDS at most. So a member that answers
at the last moment holds up the others for half a second."""
LOOK_SECONDS = 1.0
"""The most that counts as waiting between two looks. If this process was busy or asleep for longer, the members were
not silent all that time."""
STOCK_HELLO_SECONDS = 120.0
"""The same on a stock grid. Flower's deployment engine starts a process for each message, and its simulation plays a
thousand members one after the other; so the exchange's own deadline holds if it is longer."""
ASK_AGAIN_SECONDS = 5.0


def gather(
    federation: Federation, grid: Grid, *, number: int = 0, yielding: bool = False
) -> tuple[dict[str, int], dict[str, MemberStanding]]:
    """Waits for members that are ready: the cohort that is asked for, or the smallest after `gather_seconds`.

    With `yielding`, an order that holds rounds back ends the wait, and no members are returned. `number` is that of the
    round that is tried again.

    Returns their node ids and what they hold, by name. Every member is asked who it is and what it holds;
    on our link an answer that is not the certificate's name does not count.
    """
    settings = federation.settings
    smallest = federation.quorum()
    willing = {member.name for member in federation.membership.members} - federation.cheaters
    wanted = max(min(settings.cohort or len(willing), len(willing)), smallest)
    started, told, ready = time.monotonic(), -1, 0
    asked_at, asked = 0.0, set[int]()
    while not federation.stopping.is_set():
        connected = present(federation, grid)
        federation.metrics.connected.set(len(connected))
        if yielding and must_yield(federation):
            break
        federation.live.update(doing=Doing.WAITING, connected=len(connected), required=smallest)
        now = time.monotonic()
        # A connected member may change its answer, so members are asked again from time to time, and when others come.
        if connected and (set(connected) != asked or now - asked_at >= ASK_AGAIN_SECONDS):
            asked_at, asked = now, set(connected)
            offer = Offer(
                run=federation.run,
                round=number or federation.rounds.next_round(),
                release=federation.releases.head().number,
                connected=len(connected),
                ready=ready,
                required=smallest,
                members=len(federation.membership.members),
                plan=federation.plan,
                tenure=federation.tenure(),
            )
            nodes, held = hello(federation, grid, connected, offer)
            held = bring_forward(federation, grid, nodes, held)
            nodes = {name: node for name, node in nodes.items() if name in held}
            ready = len(nodes)
            waited = time.monotonic() - started >= settings.gather_seconds
            if ready >= smallest and (ready >= wanted or waited):
                return nodes, held
        if len(connected) != told:
            told = len(connected)
            federation.log.info("waiting_for_members", connected=told, required=smallest, cohort=wanted)
        federation.stopping.wait(0.2)
    return {}, {}


def present(federation: Federation, grid: Grid) -> list[int]:
    """The node ids of the charter's members that hold a link. A retired member may hold a link for a moment longer: it
    is not asked and does not count. A stock grid cannot say which member a node is."""
    if not isinstance(grid, LinkGrid):
        return list(grid.get_node_ids())
    known = {member.name for member in federation.membership.members}
    return [node for name, node in grid.members().items() if name in known]


def hello(
    federation: Federation, grid: Grid, connected: Sequence[int], offer: Offer
) -> tuple[dict[str, int], dict[str, MemberStanding]]:
    """Offers the round.

    Returns, for each member that answers and is ready, its node id and what it holds. A member with an older epoch is
    asked again with the newer ones, since its owner may have to look at them first. Raises ConfigurationError when the
    members are ahead of this coordinator.
    """
    # On our own link the certificate says who is asked; a stock grid knows a node's name only from its answer.
    if isinstance(grid, LinkGrid):
        asked = {name: node for name, node in grid.members().items() if node in connected}
    else:
        asked = {str(node): node for node in connected}
    found = ask(federation, grid, asked, offer, {})
    behind = {
        member: present
        for member, present in found.items()
        if present.unready is None and present.epoch < federation.charter.epoch
    }
    if behind:
        epochs = lacking(federation, behind)
        again = ask(federation, grid, {member: asked[member] for member in epochs}, offer, epochs)
        found = {member: present for member, present in found.items() if member not in behind} | again
    ahead = {present.member for present in found.values() if present.release > offer.release}
    federation.tenancy.require_current()
    require_not_behind(federation.membership, ahead, release=offer.release)
    ready = [
        (asked[member], present)
        for member, present in found.items()
        if present.unready is None and present.member not in federation.cheaters
    ]
    nodes = {present.member: node for node, present in ready}
    held = {
        present.member: MemberStanding(
            release=present.release, epoch=present.epoch, manifests=present.release + 1
        )
        for _, present in ready
    }
    return nodes, held


def offer_seconds(asked: int) -> float:
    """How long so many members on our own link have to answer an offer."""
    return HELLO_SECONDS + HELLO_SECONDS_EACH * asked


class Lull:
    """Measures how long no member has answered, from the first look on. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._looked, self._left = clock, math.inf, HELLO_SECONDS

    def heard(self) -> None:
        """A member answered."""
        self._left = min(self._left + ANSWER_BUYS_SECONDS, HELLO_SECONDS)

    def over(self) -> bool:
        """Whether no answer has come for so long that no more are expected."""
        now = self._clock()
        self._left -= min(max(now - self._looked, 0.0), LOOK_SECONDS)
        self._looked = now
        return self._left < 0


def ask(
    federation: Federation,
    grid: Grid,
    asked: Mapping[str, int],
    offer: Offer,
    charters: Mapping[str, tuple[bytes, ...]],
) -> dict[str, OfferAnswer]:
    """Sends the offer, and the signed epochs that go with it, to each of `asked` (name or number, and node).

    Returns the answers of those that gave one."""
    found: dict[str, OfferAnswer] = {}
    heads = {node_id(name): head for name, head in federation.rounds.heads().items()}

    def content(member: str) -> RecordDict:
        head = heads.get(asked[member], b"")
        return replace(offer, head=head, charters=charters.get(member, ())).pack()

    def answered(answer: MemberReply) -> None:
        present = OfferAnswer.parse(answer.fields)
        name = federation.membership.member(present.member).name
        twice = name in {other.member for other in found.values()}
        if (isinstance(grid, LinkGrid) and name != answer.member) or twice:
            raise IdentityError(f"{answer.member!r} answered in the name of {name!r}", culprit=answer.member)
        note_tenure(federation, name, present.tenure)
        keep_ledger_head(federation, name, present.head)
        note_unready(federation, name, present.unready)
        found[answer.member] = present

    ours, lull = isinstance(grid, LinkGrid), Lull()
    for item in exchange(
        grid,
        asked,
        content,
        answered,
        message_type=HELLO,
        round=offer.round,
        seconds=offer_seconds(len(asked))
        if ours
        else max(STOCK_HELLO_SECONDS, federation.settings.exchange_seconds),
        reply_bytes=lambda _: ENVELOPE_BYTES,
        enough=lull.over if ours else never,
        shared=lambda member: charters.get(member, ()),
    ):
        lull.heard()
        if isinstance(item, LostMember) and item.rejected is not None:
            federation.metrics.rejected.labels(item.rejected.value).inc()
            federation.log.warning("hello_refused", member=item.member, error=item.error)
    return found
