"""A history longer than one message: brought in parts, verified before more is asked for, and used for nothing before
a release that members vouch for follows it. The lies are told by a coordinator with its true key to the real app."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextvars import Token
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from tests.federation import inprocess
from tests.federation.long_history import put, signed_history
from tests.federation.proposed import offer_of

from sordino_client.round.addressee import MEMBER
from sordino_client.round.app import app
from sordino_client.round.member import Member
from sordino_coordinator import bringing
from sordino_coordinator.attempt import attempt_context
from sordino_coordinator.federation import Federation
from sordino_coordinator.gathering import hello
from sordino_coordinator.ongoing import OngoingRound
from sordino_coordinator.patience import LONGEST_WAIT_SECONDS, CatchUpPatience
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.standing import MemberStanding
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform import history
from sordino_platform.catching_up import CATCH_UP, HistoryPart, framed, unframed
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import HELLO, Fields, Phase, node_id
from sordino_platform.identity import Identity
from sordino_platform.offer import Offer
from sordino_platform.proposal import Proposal
from sordino_platform.provenance import Provenance
from sordino_platform.release import SignedManifest
from sordino_platform.tenure import SignedTenure
from sordino_privacy.errors import LinkError

RELEASES = 120
PART = 40_000
"""Bytes of a part in these tests: a history of some parts, made in a moment."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation with a history, of which no member holds anything."""
    folder: Path = tmp_path_factory.mktemp("old") / "federation"
    inprocess.found_in(folder)
    coordinator = folder / "coordinator"
    Federation.open(coordinator)  # makes the first release
    put(coordinator, signed_history(coordinator, RELEASES))
    return folder


@pytest.fixture
def place(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(history, "BATCH_BYTES", PART)
    monkeypatch.setattr(bringing, "BATCH_BYTES", PART)
    folder = tmp_path / "federation"
    shutil.copytree(old, folder)
    yield folder
    shutil.rmtree(folder)


def one_round(federation: Federation, grid: Any, number: int = 1) -> Outcome:
    for member in grid.members.values():
        inprocess.store_update(member, federation, number, 0.001)
    SecureFedAvg(federation).one_round(grid)
    return federation.rounds.rounds()[-1].outcome


def parts_told(grid: Any, name: str) -> int:
    return sum(1 for told in grid.seen if told == (CATCH_UP, name))


def test_newcomers_take_part_after_a_history_longer_than_a_message(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    size = sum(len(signed.to_bytes()) for signed in federation.releases.chain())
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        assert one_round(federation, grid) is Outcome.COMPLETED
        head = federation.releases.head()
        assert head.number == RELEASES + 1
        for name, member in members.items():
            assert member.releases.chain() == federation.releases.chain()
            assert member.newest_release() == head.number
            assert not (member.folder / "coming").exists()
            assert size // PART <= parts_told(grid, name) <= size // PART + 2
        grid.seen.clear()
        assert one_round(federation, grid, 2) is Outcome.COMPLETED
        assert not any(kind == CATCH_UP for kind, _ in grid.seen), "who holds it all is brought nothing"


def test_a_proposal_brings_no_more_manifests_than_a_part(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    fits = federation.releases.first_within(PART)
    shown = federation.records.provenance(after=-1, known=fits)
    assert shown is not None
    assert sum(map(len, shown.manifests)) <= PART
    assert len(shown.manifests) == RELEASES + 1 - fits > 1
    for known in (RELEASES, RELEASES + 1, RELEASES + 100):  # whatever a member says that it holds
        shown = federation.records.provenance(after=-1, known=known)
        assert shown is not None
        assert len(shown.manifests) == 1


def test_what_was_brought_before_a_restart_is_not_brought_again(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        asked = list[str]()

        def twice_and_no_more(kind: str) -> None:
            asked.append(kind)
            if asked.count(CATCH_UP) > 2 * len(members):
                raise RuntimeError("killed")

        grid.on_message = twice_and_no_more
        with pytest.raises(RuntimeError, match="killed"):
            one_round(federation, grid)
    names = sorted(path.name for path in (place / "members" / "alder" / "coming").iterdir())
    assert names[0] == "000000.bin"
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=8)
        assert members["alder"].newest_release() == -1
        assert one_round(federation, grid) is Outcome.COMPLETED
        again = parts_told(grid, "alder")
        assert all(member.releases.chain() == federation.releases.chain() for member in members.values())
    whole = sum(len(signed.to_bytes()) for signed in federation.releases.chain()) // PART
    assert again <= whole, "the parts of before the restart are not brought again"


def test_a_file_that_was_damaged_is_brought_again(place: Path) -> None:
    chain = Federation.open(place / "coordinator").releases.chain()
    with inprocess.opened(place) as members:
        assert bring(members["alder"], chain[:50]) == 50
        assert bring(members["alder"], chain[50:80], first=50) == 80
    damaged = place / "members" / "alder" / "coming" / "000050.bin"
    data = bytearray(damaged.read_bytes())
    data[700] ^= 1
    damaged.write_bytes(data)
    with inprocess.opened(place) as members:
        assert bring(members["alder"], ()) == 50
        assert bring(members["alder"], chain[50:], first=50) == len(chain)


def test_who_does_not_come_forward_is_left_out_and_the_others_hold_their_round(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "PART_SECONDS", 0.5)
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        grid.absent = {(CATCH_UP, "elm")}
        assert one_round(federation, grid) is Outcome.COMPLETED
        assert members["elm"].newest_release() == -1
        assert "elm" not in federation.rounds.rounds()[-1].members
        assert parts_told(grid, "elm") == 1, "one that is silent is waited for once"
        assert (Phase.TRAIN.message_type, "elm") not in grid.seen


@pytest.mark.parametrize("wants", [-1, 0, RELEASES + 5])
def test_a_member_that_wants_what_cannot_be_next_is_brought_no_more(
    place: Path, wants: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        told = list[int]()

        def lies(pull: Callable[..., Any]) -> Callable[..., Any]:
            def pulled(ids: Any) -> Any:
                replies = pull(ids)
                for reply in replies:
                    if reply.has_content() and "next" in (found := reply.content["sordino.fields/1"]):
                        told.append(1)
                        found["next"] = wants
                return replies

            return pulled

        monkeypatch.setattr(grid, "pull_messages", lies(grid.pull_messages))
        held = {name: MemberStanding(release=-1, epoch=1, manifests=0) for name in members}
        nodes = {name: node_id(name) for name in members}
        assert bringing.bring_forward(federation, grid, nodes, held) == {}
        assert len(told) <= 2 * len(members)


def test_a_standing_is_what_the_member_said(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        nodes, held = hello(federation, grid, list(grid.get_node_ids()), offer(federation))
        held = bringing.bring_forward(federation, grid, nodes, held)
        assert {standing.manifests for standing in held.values()} == {federation.releases.first_within(PART)}
        assert {standing.release for standing in held.values()} == {-1}


def answering(grid: Any, monkeypatch: pytest.MonkeyPatch, liar: str, wants: Callable[[int], int]) -> None:
    """Lets one member answer another number than the one that it has come to."""

    def lies(pull: Callable[..., Any]) -> Callable[..., Any]:
        def pulled(ids: Any) -> Any:
            replies = list(pull(ids))
            for reply in replies:
                if reply.metadata.src_node_id == node_id(liar) and reply.has_content():
                    found = reply.content.get("sordino.fields/1", {})
                    if "next" in found:
                        found["next"] = wants(int(found["next"]))
            return replies

        return pulled

    monkeypatch.setattr(grid, "pull_messages", lies(grid.pull_messages))


def test_a_member_that_takes_a_release_at_a_time_is_brought_one_part(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        said = iter(range(RELEASES))
        answering(grid, monkeypatch, "elm", lambda _: next(said))
        assert one_round(federation, grid) is Outcome.COMPLETED
        assert "elm" not in federation.rounds.rounds()[-1].members
        assert parts_told(grid, "elm") == 2, "where it stands, and one part"
        grid.seen.clear()
        assert one_round(federation, grid, 2) is Outcome.COMPLETED
        assert parts_told(grid, "elm") == 0, "it waits"


def test_a_member_that_wants_again_what_it_has_taken_is_brought_it_once_and_waits(place: Path) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        nodes, held = hello(federation, grid, list(grid.get_node_ids()), offer(federation))
        elm = {"elm": held["elm"]}

        def brought() -> int:
            grid.seen.clear()
            members["elm"].coming.clear()
            bringing.bring_forward(federation, grid, nodes, elm)
            return parts_told(grid, "elm")

        whole = brought()
        assert whole > 2
        assert brought() == whole, "its folder may have come from a backup"
        assert brought() == 0


def test_who_comes_further_never_waits_and_who_does_not_waits_twice_as_long_each_time() -> None:
    patience, now = CatchUpPatience(), 0.0
    for began in range(0, 100, 10):
        assert patience.settle("slow", began=began, ended=began + 10, now=now) == 0
        assert patience.may_try("slow", now=now)
    waits = []
    stretches: list[tuple[int | None, int]] = [(None, 0), (0, 0), (0, 9), (3, 9), *[(None, 0)] * 20]
    for first, ended in stretches:
        assert patience.may_try("liar", now=now)
        if wait := patience.settle("liar", began=first, ended=ended, now=now):
            waits.append(wait)
            assert not patience.may_try("liar", now=now + wait - 1)
        now += wait
    assert waits[:4] == [60, 120, 240, 480]
    assert waits[-1] == LONGEST_WAIT_SECONDS
    now += LONGEST_WAIT_SECONDS + 1
    assert patience.settle("liar", began=None, ended=0, now=now) == 60, "and that is forgotten after a day"


# ------------------------------------------------------------------------------------------- what a liar gains: nothing


def offer(federation: Federation) -> Offer:
    return offer_of(federation, release=federation.releases.head().number)


def ask(member: Member, kind: str, content: RecordDict) -> Message:
    """What the member's own app answers to a message of the coordinator."""
    shim.identify(run=7, node=shim.COORDINATOR_NODE)
    message = Message(content, node_id(member.name), kind)
    shim.stamp(message)
    made = decode_message(inprocess.joined(encode_message(message)))
    token: Token[Member] = MEMBER.set(member)
    try:
        return app(made, shim.new_context(run=7, node=node_id(member.name), run_config={}))
    finally:
        MEMBER.reset(token)


def reply_to(member: Member, chain: Sequence[SignedManifest], *, first: int = 0, **more: Any) -> Message:
    manifests = tuple(signed.to_bytes() for signed in chain)
    part = HistoryPart(first=first, newest=RELEASES, manifests=manifests, **more)
    return ask(member, CATCH_UP, part.pack())


def bring(member: Member, chain: Sequence[SignedManifest], *, first: int = 0) -> int:
    return Fields(reply_to(member, chain, first=first)).integer("next")


def files(member: Member) -> dict[str, bytes]:
    """Every file of the member that a message could change, but for the databases' own."""
    kept = (member.folder / name for name in ("coming", "releases", "completion", "charters", "round"))
    return {
        str(path.relative_to(member.folder)): path.read_bytes()
        for folder in kept
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def told(place: Path) -> Iterator[tuple[Federation, Member]]:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        yield federation, members["alder"]


Lie = Callable[[list[SignedManifest], Path], list[SignedManifest]]


def _unsigned(chain: list[SignedManifest], _: Path) -> list[SignedManifest]:
    return [*chain[:9], chain[9].model_copy(update={"signature": bytes(64)})]


def _gap(chain: list[SignedManifest], _: Path) -> list[SignedManifest]:
    return [*chain[:5], *chain[6:9]]


def _turned(chain: list[SignedManifest], _: Path) -> list[SignedManifest]:
    return [*chain[:5], chain[6], chain[5]]


def _of_another_model(chain: list[SignedManifest], place: Path) -> list[SignedManifest]:
    forged = chain[5].manifest.model_copy(update={"vector_hash": bytes(32)})
    return [*chain[:5], SignedManifest.sign(forged, Identity.load(place / "coordinator").signing_key)]


@pytest.mark.parametrize("lie", [_unsigned, _gap, _turned, _of_another_model])
def test_a_part_that_breaks_a_rule_anywhere_leaves_nothing(
    told: tuple[Federation, Member], place: Path, lie: Lie
) -> None:
    federation, member = told
    before = files(member)
    reply = reply_to(member, lie(list(federation.releases.chain()), place))
    assert reply.error.reason == "model"
    assert files(member) == before
    assert bring(member, ()) == 0, "and the true one is taken after it"
    assert bring(member, federation.releases.chain()[:30]) == 30


def test_what_was_brought_is_no_release_and_is_served_to_nobody(told: tuple[Federation, Member]) -> None:
    federation, member = told
    before = files(member)
    assert bring(member, federation.releases.chain()) == RELEASES + 1
    assert member.newest_release() == -1
    assert member.releases.chain() == ()
    assert {name for name in files(member) if name not in before} == {"coming/000000.bin"}
    assert all(files(member)[name] == data for name, data in before.items())


@pytest.mark.parametrize("first", [0, 29, 31, RELEASES])
def test_a_part_that_begins_elsewhere_is_not_looked_at(told: tuple[Federation, Member], first: int) -> None:
    federation, member = told
    chain = federation.releases.chain()
    assert bring(member, chain[:30]) == 30
    before = files(member)
    assert bring(member, chain[first : first + 5], first=first) == 30
    assert files(member) == before


def test_what_was_brought_binds_the_coordinator(told: tuple[Federation, Member], place: Path) -> None:
    """Neither an older end nor another history follows it, and what such a proposal brought is not kept."""
    federation, member = told
    chain = federation.releases.chain()
    bring(member, chain[:60])
    context = attempt_context(federation, OngoingRound(1, {"alder": node_id("alder")}, {}))
    inprocess.store_update(member, federation, 1, 0.001)
    before = files(member)

    def propose(manifests: Sequence[SignedManifest]) -> Message:
        shown = Provenance(manifests=tuple(signed.to_bytes() for signed in manifests))
        proposal = Proposal(context=context, plan=federation.plan, provenance=shown)
        return ask(member, Phase.TRAIN.message_type, proposal.pack())

    other = signed_history(place / "coordinator", 0)[:40]
    forked = [*other, *_behind(other, place, 30)]
    for lie in (chain[:50], chain[40:50], forked, forked[40:]):
        assert propose(lie).error.reason == "model"
        assert files(member) == before
    assert not propose(chain[60:]).has_error()
    assert member.releases.chain() == chain


def _behind(chain: Sequence[SignedManifest], place: Path, releases: int) -> list[SignedManifest]:
    """Another continuation of a part of the coordinator's history, signed by it."""
    key, more = Identity.load(place / "coordinator").signing_key, list(chain)
    for _ in range(releases):
        before = more[-1].manifest
        update = {"number": before.number + 1, "parent": before.hash(), "restores": 0, "run": "other"}
        more.append(SignedManifest.sign(more[0].manifest.model_copy(update=update), key))
    return more[len(chain) :]


def test_the_coordinator_gains_no_disk_without_end(
    told: tuple[Federation, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, member = told
    chain = federation.releases.chain()
    monkeypatch.setattr("sordino_client.round.coming.MOST_BYTES", 60_000)
    assert bring(member, chain[:30]) == 30
    before = files(member)
    assert reply_to(member, chain[30:100], first=30).error.reason == "policy"
    assert files(member) == before


def test_a_paused_member_and_one_that_nobody_asked_keep_nothing(told: tuple[Federation, Member]) -> None:
    federation, member = told
    chain = federation.releases.chain()
    member.participation.mode = "when_asked"
    before = files(member)
    assert reply_to(member, chain[:30]).error.reason == "unwilling"
    member.participation.mode = "every_round"
    member.participation.pause()
    assert reply_to(member, chain[:30]).error.reason == "unwilling"
    assert files(member) == before


def test_a_machine_that_was_replaced_brings_nothing(told: tuple[Federation, Member]) -> None:
    federation, member = told
    later = SignedTenure.begin(federation="test", after=1, key=federation.identity.signing_key)
    assert not ask(member, HELLO, replace(offer(federation), tenure=later.to_bytes()).pack()).has_error()
    before = files(member)
    assert reply_to(member, federation.releases.chain()[:30]).error.reason == "superseded"
    assert files(member) == before
    assert not reply_to(member, federation.releases.chain()[:30], tenure=later.to_bytes()).has_error()


@given(items=st.lists(st.binary(min_size=1, max_size=300), max_size=20), cut=st.integers(0, 400))
def test_a_part_has_one_encoding_and_half_of_one_is_refused(items: list[bytes], cut: int) -> None:
    data = framed(items)
    assert unframed(data) == tuple(items)
    piece = data[:cut]
    try:
        assert framed(unframed(piece)) == piece
    except LinkError:
        assert piece != data
