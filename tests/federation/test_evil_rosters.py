"""A coordinator with its true key, and every colluder that the charter allows for, against one real member.

The colluders sign with the keys that the charter names for them, so every signature in a roster is good. What is told
here is only who takes part: the choice that belongs to the coordinator, whatever it is worth.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import Token
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message, RecordDict

from sordino_client.app import app
from sordino_client.member import Member as RealMember
from sordino_client.residence import MEMBER
from sordino_coordinator.federation import Federation
from sordino_coordinator.strategy import Round, SecureFedAvg
from sordino_platform.charter import Draft, Floors, drafting, shipped_model
from sordino_platform.charter import Member as Listed
from sordino_platform.durable import write_file
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode, encode
from sordino_platform.flower.phases import Fields, Phase, node_id, pack
from sordino_platform.identity import authority, site
from sordino_platform.keys import public_bytes
from sordino_platform.proposal import Proposal
from sordino_platform.settings import toml_text
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import Context
from sordino_privacy.secagg.graph import quorum
from sordino_privacy.secagg.keys import public_key
from sordino_privacy.secagg.roster import Advertisement, Roster

VICTIM = "victim"


def load_helper() -> ModuleType:
    name = "sordino_tests_inprocess"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("inprocess.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


inprocess = load_helper()


def key_of(name: str) -> Ed25519PrivateKey:
    """The identity key of everybody but the victim: the adversary has them all, and may use as many as collude."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def organisation_of(number: int, organisations: int) -> str:
    return f"organisation {number % organisations}"


def found_many(folder: Path, members: int, *, organisations: int, floors: Floors) -> None:
    """A federation of `members` under real ceremony, of whom only the victim has a folder; the victim is the first,
    the others are `other-0001`, ... and the organisations go round."""
    root = folder / "root"
    pin = authority.found_root(root, federation="crowd", model=shipped_model(adapter_rank=1), floors=floors)
    requests = {}
    for role, name, organisation in (
        ("coordinator", "coordinator", "crowd"),
        ("member", VICTIM, organisation_of(0, organisations)),
    ):
        place = folder / role
        token = authority.invite(root, role=role, name=name, organisation=organisation)  # type: ignore[arg-type]
        hosts: dict[str, Any] = {"dns_names": ("localhost",)} if role == "coordinator" else {}
        site.create(place, federation="crowd", role=role, name=name, organisation=organisation, **hosts)  # type: ignore[arg-type]
        requests[place] = site.make_request(place, token=token)
        authority.enrol(root, requests[place])

    def let_in(draft: Draft) -> Draft:
        others = [
            Listed(
                name=name,
                organisation=organisation_of(number, organisations),
                identity_key=public_bytes(key_of(name)),
            )
            for number, name in enumerate(others_of(members), 1)
        ]
        everyone = sorted((*draft.members, *others), key=lambda member: member.name)
        return drafting.revised(draft, members=tuple(everyone))

    drafting.change(root, let_in)
    authority.sign_epoch(root)
    for place, request in requests.items():
        site.install(place, authority.approve(root, request), root=pin)
    settings = {"version": 1, "rounds": 1, "plan": inprocess.PLAN}
    write_file(
        folder / "coordinator" / "coordinator.toml", toml_text(settings, comments={}).encode(), secret=True
    )
    own = {"version": 1, "name": VICTIM, "coordinator": "127.0.0.1:1", "repositories": [str(folder)]}
    write_file(folder / "member" / "member.toml", toml_text(own, comments={}).encode(), secret=True)


def others_of(members: int) -> list[str]:
    return [f"other-{number:04d}" for number in range(1, members)]


class EvilHub:
    """The coordinator's true state and key; it asks the one real member, and answers for everybody else."""

    def __init__(self, folder: Path, member: RealMember) -> None:
        self.federation, self.member = Federation.open(folder / "coordinator"), member
        self.strategy = SecureFedAvg(self.federation)
        self.round = Round(1, {VICTIM: node_id(VICTIM)}, {})
        self.context = self.strategy.context(self.round)
        self._state = shim.new_context(run=7, node=node_id(VICTIM), run_config={})
        shim.identify(run=7, node=shim.COORDINATOR_NODE)
        inprocess.store_update(member, self.federation, 1, 0.001)

    def ask(self, phase: Phase, content: RecordDict) -> Message:
        """What the member's own app answers."""
        message = Message(content, node_id(VICTIM), phase.message_type)
        shim.stamp(message)
        made = decode(inprocess.joined(encode(message)))
        token: Token[RealMember] = MEMBER.set(self.member)
        try:
            return app(made, self._state)
        finally:
            MEMBER.reset(token)

    def propose(self, context: Context | None = None) -> Message:
        releases = self.federation.releases
        proposal = Proposal(
            context=context or self.context,
            plan=self.federation.plan,
            manifests=tuple(self.federation.history(after=self.member.newest_release())),
            weights=releases.vector(),
        )
        return self.ask(Phase.TRAIN, proposal.pack())

    def roster(self, names: Sequence[str], context: Context | None = None) -> bytes:
        """The victim's own advertisement with those of `names`, all signed, and whatever numbers fit them best."""
        context = context or self.context
        reply = self.propose(context)
        own = Advertisement.decode(Fields(reply).blob("advertisement"))
        entries = sorted((own, *(advertised(name, context) for name in names)), key=lambda entry: entry.name)
        # What the victim itself computes, where it computes anything; else the numbers of the roster alone.
        corrupt = self.federation.membership.corrupt(context.gamma_permille)
        q = quorum(len(entries), corrupt=min(corrupt, len(entries) - 3), honest=3)
        blank = object.__new__(Roster)
        object.__setattr__(blank, "entries", tuple(entries))
        object.__setattr__(blank, "numbers", _Claimed(quorum=q, threshold=q, degree=len(entries) - 1))
        return blank.encode()

    def share(self, names: Sequence[str], context: Context | None = None) -> Message:
        return self.ask(Phase.SHARE, pack({"roster": self.roster(names, context)}))


class _Claimed:
    def __init__(self, *, quorum: int, threshold: int, degree: int) -> None:
        self.quorum, self.threshold, self.degree = quorum, threshold, degree


def advertised(name: str, context: Context) -> Advertisement:
    """A colluder's sound advertisement, signed with its true key."""
    secret = key_of(name).private_bytes_raw()
    return Advertisement(
        ctx=context.digest(),
        name=name,
        exchange=public_key(secret[::-1]),
        masking=public_key(bytes(byte ^ 0x5A for byte in secret)),
        commitment=secret,
        nonce=bytes(32),
    ).signed(secret)


def refused_as(reply: Message) -> str:
    return str(reply.error.reason) if reply.has_error() else "answered"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int, Floors], Path]:
    made: dict[object, Path] = {}

    def make(members: int, organisations: int, floors: Floors) -> Path:
        which = members, organisations, floors
        if which not in made:
            made[which] = tmp_path_factory.mktemp("crowd") / "federation"
            found_many(made[which], members, organisations=organisations, floors=floors)
        return made[which]

    return make


class Opened:
    """The victim and the evil coordinator, on a copy of a founded federation."""

    def __init__(self, founded: Path, folder: Path) -> None:
        shutil.copytree(founded, folder)
        self._member = RealMember.open(folder / "member")
        self._folder = folder

    def __enter__(self) -> EvilHub:
        return EvilHub(self._folder, self._member.__enter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._member.__exit__(kind, error, trace)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "federation"
    shutil.rmtree(tmp_path / "federation", ignore_errors=True)


SIZES = [20, 100, pytest.param(1000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("members", SIZES)
def test_a_roster_of_the_victim_and_four_colluders_is_refused_by_the_member_itself(
    founded: Callable[..., Path], place: Path, members: int
) -> None:
    floors = Floors(cohort=members // 5 + 3)
    with Opened(founded(members, members, floors), place) as hub:
        assert refused_as(hub.share(others_of(members)[:4])) == "FloorError"
        assert not hub.member.ledger.entries("crowd", hub.context.run, 1)[1:], (
            "nothing after the advertisement"
        )


@pytest.mark.parametrize("members", SIZES)
def test_all_colluders_of_the_charter_and_the_victim_are_too_few_and_a_roster_with_room_is_answered(
    founded: Callable[..., Path], place: Path, members: int
) -> None:
    corrupt = members // 5
    floors = Floors(cohort=corrupt + 3)
    with Opened(founded(members, members, floors), place) as hub:
        assert refused_as(hub.share(others_of(members)[: corrupt + 1])) == "FloorError"
    shutil.rmtree(place)
    with Opened(founded(members, members, floors), place) as hub:
        assert refused_as(hub.share(others_of(members)[: corrupt + 2])) == "answered"


def test_a_roster_of_the_victims_organisation_and_the_colluders_of_two_others_is_refused(
    founded: Callable[..., Path], place: Path
) -> None:
    """Three organisations take part, as the floor asks; without the four colluders only the victim's is left."""
    with Opened(founded(20, 6, Floors(cohort=7)), place) as hub:
        members = hub.federation.charter.members
        own = next(member.organisation for member in members if member.name == VICTIM)
        colleagues = [m.name for m in members if m.organisation == own and m.name != VICTIM]
        colluders = [
            member.name
            for wanted in ("organisation 1", "organisation 2")
            for member in [m for m in members if m.organisation == wanted][:2]
        ]
        assert (len(colleagues), len(colluders)) == (3, 4)
        chosen = [*colleagues[:2], *colluders]
        assert refused_as(hub.share(chosen)) == "FloorError"


@pytest.mark.parametrize(
    ("stricter", "too_small", "large_enough"),
    [({"cohort": 9}, 8, 9), ({"organisations": 8}, 11, 12), ({"gamma_permille": 333}, 8, 9)],
)
def test_floors_that_are_stricter_than_the_charters_are_accepted_and_kept(
    founded: Callable[..., Path], place: Path, stricter: dict[str, int], too_small: int, large_enough: int
) -> None:
    """Of 20 members at gamma 333 six may collude, so that nine are needed where the charter alone asks for seven."""
    for size, answer in ((too_small, "FloorError"), (large_enough, "answered")):
        with Opened(founded(20, 20, Floors(cohort=7)), place) as hub:
            context = replace(hub.context, **stricter)  # type: ignore[arg-type]
            assert refused_as(hub.share(others_of(20)[: size - 1], context)) == answer
        shutil.rmtree(place)


@pytest.mark.parametrize(
    ("weaker", "refusal"),
    [
        ({"cohort": 6}, "FloorError"),
        ({"organisations": 2}, "FloorError"),
        ({"gamma_permille": 149}, "ThresholdError"),
    ],
)
def test_a_context_that_is_weaker_than_the_charter_is_refused_before_anything_is_charged(
    founded: Callable[..., Path], place: Path, weaker: dict[str, int], refusal: str
) -> None:
    with Opened(founded(20, 20, Floors(cohort=7)), place) as hub:
        assert refused_as(hub.propose(replace(hub.context, **weaker))) == refusal  # type: ignore[arg-type]
        assert not hub.member.ledger.reservations()


def test_a_charter_without_room_for_its_colluders_is_refused_when_it_is_drafted_signed_and_opened(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"of 20 members 4 may collude .* set it to 7 or more"):
        found_many(place, 20, organisations=20, floors=Floors(cohort=5))
    shutil.rmtree(place)
    # A root's holder whose software does not look: the charter is signed, and no party opens it.
    with monkeypatch.context() as careless:
        careless.setattr("sordino_privacy.secagg.membership.Floors.require_room", lambda self, members: None)
        found_many(place, 20, organisations=20, floors=Floors(cohort=5))
    with pytest.raises(ConfigurationError, match="set it to 7 or more"), RealMember.open(place / "member"):
        raise AssertionError("a member opened it")
    with pytest.raises(ConfigurationError, match="set it to 7 or more"):
        Federation.open(place / "coordinator")
