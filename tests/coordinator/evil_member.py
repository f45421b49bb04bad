"""A real coordinator in this process, four honest members, and one that says whatever a test wants in any phase.

The strategy, its session, our grid and the boundary are real; so are the members, their folders and apps. Only the link
is a `Post`: it answers at once, and refuses a reply above what was asked for, as the link does at its first frame.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from flwr.app import Context, Message
from flwr.serverapp import Grid
from tests.federation import inprocess
from tests.federation.forged import FORGERIES, Forge, fields, joined, parts

from sordino_client.round.addressee import MEMBER
from sordino_client.round.app import app
from sordino_client.round.member import Member
from sordino_coordinator.beginning import begin_round
from sordino_coordinator.boundary import LostMember as Unanswered
from sordino_coordinator.control.live import Doing
from sordino_coordinator.federation import Federation
from sordino_coordinator.grid import LinkGrid
from sordino_coordinator.holding import RoundPhases
from sordino_coordinator.ongoing import OngoingRound
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import HELLO, STREAMED, Fields, Phase, node_id
from sordino_platform.link import LinkServer, Loss
from sordino_platform.link.messages import Payload
from sordino_platform.link.server import LostRequest, Reply, Result
from sordino_privacy.secagg import keys, merkle
from sordino_privacy.secagg.complaint import Complaint
from sordino_privacy.secagg.equality import Equality
from sordino_privacy.secagg.shares import Delivery, Shares, Statement
from sordino_privacy.secagg.survivors import Reveal
from sordino_privacy.signing import Signer

EVIL = "elm"
HONEST = tuple(name for name in inprocess.NAMES if name != EVIL)
SPOKEN = (HELLO, *(phase.message_type for phase in Phase if phase is not Phase.RESULT))

Lie = Callable[["Post", Message, bytes], bytes | Loss]
"""What the evil member answers to a message, in place of its true answer: bytes, or how the link loses it."""


@dataclass
class Post:
    """What a `LinkGrid` needs of a link. `script` has the evil member's next lies, by message type."""

    members: dict[str, Member]
    run: int
    script: dict[str, Lie] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._count = 0
        self._contexts: dict[str, Context] = {
            name: shim.new_context(run=self.run, node=node_id(name), run_config={}) for name in self.members
        }

    def connected(self) -> frozenset[str]:
        return frozenset(self.members)

    def send(
        self, member: str, payload: Payload, *, deadline_seconds: float, reply_bytes: int | None = None
    ) -> int:
        self._count += 1
        asked = decode_message(inprocess.joined(payload))
        answer: bytes | Loss = self._answer(member, asked)
        if member == EVIL:
            assert isinstance(answer, bytes)
            self.heard.append(answer)
            lie = self.script.pop(asked.metadata.message_type, None)
            if lie is not None:
                self.told.append(asked.metadata.message_type)
                answer = lie(self, asked, answer)
        if isinstance(answer, bytes) and len(answer) > (reply_bytes or 1 << 28):
            answer = Loss.INVALID
        self._results.put(
            LostRequest(member=member, in_reply_to=self._count, reason=answer)
            if isinstance(answer, Loss)
            else Reply(member=member, in_reply_to=self._count, payload=memoryview(answer))
        )
        return self._count

    def receive(self, timeout: float | None = None) -> Result | None:
        with contextlib.suppress(queue.Empty):
            return self._results.get_nowait()
        return None

    def _answer(self, member: str, asked: Message) -> bytes:
        tokens = MEMBER.set(self.members[member]), STREAMED.set(None)
        try:
            return inprocess.joined(encode_message(app(asked, self._contexts[member])))
        finally:
            MEMBER.reset(tokens[0])
            STREAMED.reset(tokens[1])

    @property
    def key(self) -> Signer:
        """The evil member's true identity key."""
        return self.members[EVIL].identity.signing_key


class WatchedPhases(RoundPhases):
    """The real phases; `blamed` gets whoever is dropped in any of them."""

    def __init__(self, federation: Federation, grid: Grid, round: OngoingRound, blamed: list[str]) -> None:
        super().__init__(federation, grid, round)
        self.blamed = blamed

    def drop(self, phase: Phase, lost: Unanswered) -> None:
        self.blamed.append(lost.member)
        super().drop(phase, lost)


class Watched(SecureFedAvg):
    """The real strategy, which also keeps who was dropped in any attempt."""

    def __init__(self, federation: Federation) -> None:
        super().__init__(federation)
        self.blamed: list[str] = []

    def phases(self, grid: Grid, round: OngoingRound) -> RoundPhases:
        return WatchedPhases(self.federation, grid, round, self.blamed)


@dataclass
class World:
    """One coordinator and its members; `play` runs one round and checks what must hold after any."""

    federation: Federation
    strategy: Watched
    grid: LinkGrid
    post: Post

    @classmethod
    @contextlib.contextmanager
    def opened(cls, place: Path) -> Iterator[World]:
        federation = Federation.open(place / "coordinator")
        # Every answer, or that there is none, is there at once: a deadline would measure this machine's load alone.
        waits = {"exchange_seconds": 3600.0, "train_seconds": 3600.0}
        federation.desk.defaults = federation.settings.model_copy(update=waits)
        with inprocess.opened(place) as members:
            shim.identify(run=7, node=shim.COORDINATOR_NODE)
            post = Post(members, run=7)
            grid = LinkGrid(cast(LinkServer, post), run=7, count=federation.count_bytes)
            yield cls(federation, Watched(federation), grid, post)
        federation.live.update(doing=Doing.STOPPED)  # or its last state is written a second later
        federation.rounds.close()

    def play(self, script: dict[str, Lie]) -> tuple[str, ...]:
        """One round under these lies; the message types in which one was told."""
        federation, before = self.federation, set(self.federation.cheaters)
        begin_round(federation)
        number = len(federation.rounds.rounds()) + 1
        for member in self.post.members.values():
            inprocess.store_update(member, federation, number, 0.0005)
        self.post.script, self.post.told = dict(script), []
        assert self.strategy.one_round(self.grid) is True
        row = federation.rounds.rounds()[-1]
        assert row.round == number
        assert row.outcome is Outcome.COMPLETED
        assert set(HONEST) <= set(row.members)
        assert {*row.dropped, *self.strategy.blamed} <= {EVIL}
        assert federation.cheaters <= {EVIL}
        assert (EVIL in row.members) <= (EVIL not in before)
        assert self.count("sordino_messages_rejected_total", reason="unexpected") == 0
        assert not self.grid._asked
        assert self.post.receive() is None
        self.post.heard = self.post.heard[-20:]
        return tuple(self.post.told)

    def count(self, metric: str, **labels: str) -> float:
        return self.federation.metrics.metrics.registry.get_sample_value(metric, labels) or 0.0

    def forgive(self) -> None:
        """As after a restart of the coordinator: who was proven to cheat is asked again."""
        self.federation.cheaters.clear()


# What it can say.


def forged(name: str) -> Lie:
    forge: Forge = FORGERIES[name]
    return lambda post, asked, honest: forge(honest)


def noise(data: bytes) -> Lie:
    return lambda post, asked, honest: data


def edited(at: int, size: int, data: bytes) -> Lie:
    """The true answer with `size` bytes at `at` replaced."""

    def lie(post: Post, asked: Message, honest: bytes) -> bytes:
        start = at % (len(honest) + 1)
        return honest[:start] + data + honest[start + size :]

    return lie


def replayed(back: int) -> Lie:
    """An answer of its own from another phase or round."""
    return lambda post, asked, honest: post.heard[-1 - back % len(post.heard)]


def lost(reason: Loss) -> Lie:
    return lambda post, asked, honest: reason


def changed(name: str, change: Callable[[Post, bytes], bytes]) -> Lie:
    """The true answer with its field `name` changed."""

    def lie(post: Post, asked: Message, honest: bytes) -> bytes:
        message, vectors = parts(honest)
        for item in fields(message):
            if item.key == name:
                item.value.bytes = change(post, item.value.bytes)
        return joined(message, vectors)

    return lie


def bad_shares(hits: tuple[str, ...]) -> Lie:
    """Shares that do not open for `hits`, under a true signature."""

    def change(post: Post, message: bytes) -> bytes:
        true = Shares.decode(message)
        leaves = tuple(
            replace(leaf, sealed=bytes(80)) if leaf.recipient in hits else leaf for leaf in true.leaves
        )
        root = merkle.root([leaf.digest() for leaf in leaves])
        statement = Statement.signed(post.key, true.roster_hash, EVIL, root)
        return Shares(roster_hash=true.roster_hash, statement=statement, leaves=leaves).encode()

    return changed("shares", change)


def false_complaint(post: Post, asked: Message, honest: bytes) -> bytes:
    """Of an honest member's parcel, with a point that is not the pair's."""
    delivery = Delivery.decode(Fields(asked).blob("delivery"), EVIL)
    parcel = delivery.parcels[0]
    (statement,) = [one for one in delivery.statements if one.sender == parcel.sender]
    made_up = Equality.proven(b"x" * 32, keys.public_key(b"y" * 32), secrets.token_bytes)
    complaint = Complaint(
        roster_hash=delivery.roster_hash,
        complainer=EVIL,
        statement=statement,
        parcel=parcel,
        equality=made_up,
    )
    message, _ = parts(honest)
    del message.content.items[1:]
    del fields(message)[:]
    fields(message).add(key="complaint").value.bytes = complaint.signed(post.key).encode()
    return joined(message, b"")


def false_reveal(post: Post, message: bytes) -> bytes:
    """A share that is not the true one, under a true signature."""
    public = post.key.public_key
    true = Reveal.decode(message, public)
    shares = tuple((owner, share ^ 1) for owner, share in true.self_shares)
    return replace(true, self_shares=shares).encode_signed(post.key)


NUMBERS: set[str] = {"negative numbers", "enormous numbers"}
PLAIN = tuple(name for name in FORGERIES if name not in NUMBERS)
ALWAYS_PROVEN: dict[str, Any] = {
    Phase.SHARE.message_type: bad_shares(HONEST),
    Phase.UPLOAD.message_type: false_complaint,
    Phase.UNMASK.message_type: changed("reveal", false_reveal),
}
