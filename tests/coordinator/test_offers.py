"""How long an offer waits, and for whom: a member may be silent, or answer as late as it can, and holds nobody up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from tests.federation.proposed import offer_of

from sordino_coordinator import gathering
from sordino_coordinator.boundary import Answered, LostMember
from sordino_coordinator.crowd_benchmark.links import CrowdLink, LinkThread
from sordino_coordinator.crowd_benchmark.members import CrowdShared, LightMember
from sordino_coordinator.crowd_benchmark.place import FoundedFolder, founded
from sordino_coordinator.exchange import exchange
from sordino_coordinator.federation import Federation
from sordino_coordinator.gathering import (
    ANSWER_BUYS_SECONDS,
    HELLO_SECONDS,
    LOOK_SECONDS,
    Lull,
    hello,
    offer_seconds,
    present,
)
from sordino_coordinator.grid import LinkGrid
from sordino_coordinator.metrics import Dropped
from sordino_platform.flower import shim
from sordino_platform.identity import admit
from sordino_platform.link import LinkServer, ServerTls

MEMBERS = 24
RUN = 7


class Waiting:
    """A clock, and a lull that is looked at each tenth of a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lull = Lull(lambda: self.now)

    def over_after(self, seconds: float) -> bool:
        """Whether the offer is over at some look during so many more seconds."""
        end = self.now + seconds
        while self.now < end:
            if self.lull.over():
                return True
            self.now += 0.1
        return self.lull.over()


def test_an_offer_to_many_has_longer_and_one_to_few_no_longer_than_a_person_waits() -> None:
    """A thousand answers are sent, made and read one after the other: ten seconds were too few for them."""
    assert offer_seconds(5) < 12
    assert offer_seconds(1000) >= 100


def test_whoever_is_silent_is_waited_for_no_longer_among_many_than_among_few() -> None:
    waiting = Waiting()
    for _ in range(1000):  # as long as answers come, the offer stands
        assert not waiting.over_after(0.2)
        waiting.lull.heard()
    assert not waiting.over_after(HELLO_SECONDS - 0.5)
    assert waiting.over_after(1.0)


@pytest.mark.parametrize("late", [1, 11, 100])
def test_whoever_answers_just_before_the_others_give_up_holds_them_for_half_a_second(late: int) -> None:
    """Eleven of a thousand that share a bad intent held every offer for two minutes: ten seconds each."""
    waiting, answered = Waiting(), 0
    while not waiting.over_after(0.1):
        if waiting.lull._left < 0.3 and answered < late:
            waiting.lull.heard()
            answered += 1
    assert answered == late
    assert waiting.now <= HELLO_SECONDS + late * ANSWER_BUYS_SECONDS + 1.0


def test_what_this_process_did_meanwhile_is_nobodys_silence() -> None:
    """Sending a thousand offers takes seconds, and a laptop sleeps: the answers lie there when it wakes."""
    waiting = Waiting()
    waiting.now = 1000.0
    assert not waiting.lull.over()
    waiting.now += 1000.0
    assert not waiting.lull.over()
    assert not waiting.over_after(HELLO_SECONDS - LOOK_SECONDS - 0.5)
    assert waiting.over_after(2.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> FoundedFolder:
    made = founded(tmp_path_factory.mktemp("offers") / "crowd", members=MEMBERS, size="25k")
    made.listen("127.0.0.1:0")
    return made


@contextlib.contextmanager
def on_links(place: FoundedFolder, *, silent: Collection[str]) -> Iterator[tuple[Federation, LinkGrid]]:
    """A coordinator's end of the links of all members, TLS and all. Who is `silent` takes what it is sent and says
    nothing; its link stands."""
    federation, thread = Federation.open(place.coordinator), LinkThread()
    identity = federation.identity
    credentials = identity.tls()
    server = LinkServer(
        "127.0.0.1:0",
        tls=ServerTls(
            key=credentials.private_key, certificate=credentials.certificate, ca=credentials.authority
        ),
        identify=lambda pem: admit(pem, identity.charter)[1],
        admit=lambda name: None,
    )
    server.start()
    shim.identify(run=RUN, node=shim.COORDINATOR_NODE)

    async def nothing(*asked: object) -> None:
        return

    shared, links = CrowdShared(place.folder), list[CrowdLink]()
    try:
        for name in place.names():
            member = LightMember(place.folder / "members" / name, name, shared)
            link = member.link(thread, f"127.0.0.1:{server.port}")
            assert link is not None
            if name in silent:
                setattr(link, "_reply", nothing)  # noqa: B010 - a method of this one link
            links.append(link)
        thread.open(links)
        while len(server.connected()) < place.members:
            time.sleep(0.05)
        yield federation, LinkGrid(server, run=RUN, count=lambda *counted: None)
    finally:
        for link in links:
            link.over = True  # it opens no other stream
        server.stop(grace=0)
        federation.rounds.close()


@pytest.mark.parametrize("silent", [1, 3])
def test_over_real_links_the_others_go_on_without_a_silent_member_long_before_the_offers_deadline(
    place: FoundedFolder, monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    """The deadline is hours away here: were it waited for, this test would not end."""
    monkeypatch.setattr(gathering, "HELLO_SECONDS", 2.0)
    monkeypatch.setattr(gathering, "HELLO_SECONDS_EACH", 600.0)
    ended = dict[str, Dropped | None]()

    def watched(*arguments: Any, **named: Any) -> Iterator[Answered | LostMember]:
        for item in exchange(*arguments, **named):
            ended[item.member] = item.reason if isinstance(item, LostMember) else None
            yield item

    monkeypatch.setattr(gathering, "exchange", watched)
    without = set(place.names()[:silent])
    with on_links(place, silent=without) as (federation, grid):
        offer = offer_of(federation, connected=place.members, ready=0, members=place.members)
        nodes, held = hello(federation, grid, present(federation, grid), offer)
    assert set(nodes) == set(held) == set(place.names()) - without
    assert {name for name, reason in ended.items() if reason is Dropped.SPARE} == without
    assert set(ended.values()) == {None, Dropped.SPARE}
