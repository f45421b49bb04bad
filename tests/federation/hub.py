"""A coordinator with its true key, for tests: one real member, and the keys of everybody else in the charter.

found_many(folder, 20, organisations=20, floors=FloorTerms(cohort=7))
with Opened(folder, copy) as hub:
    hub.share(["other-0001", ...])      # what the member's own app answers to a roster of its own choice
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import Any

from flwr.app import Message, RecordDict
from tests.federation import inprocess

from sordino_client.round.addressee import MEMBER
from sordino_client.round.app import app
from sordino_client.round.member import Member as RealMember
from sordino_coordinator.attempt import attempt_context
from sordino_coordinator.federation import Federation
from sordino_coordinator.ongoing import OngoingRound
from sordino_platform.charter import CharterMember as Listed
from sordino_platform.charter import Draft, FloorTerms, drafting, shipped_model
from sordino_platform.durable import write_file
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import Fields, Phase, node_id, pack
from sordino_platform.identity import authority, site
from sordino_platform.proposal import Proposal
from sordino_platform.settings import toml_text
from sordino_privacy.secagg import RoundContext
from sordino_privacy.secagg.graph import quorum
from sordino_privacy.secagg.keys import public_key
from sordino_privacy.secagg.roster import Advertisement, Roster
from sordino_privacy.signing import KeySigner

VICTIM = "victim"


def key_of(name: str) -> KeySigner:
    """The identity key of everybody but the victim: the adversary has them all, and may use as many as collude."""
    return KeySigner.of(name.encode().ljust(32, b"."))


def organisation_of(number: int, organisations: int) -> str:
    return f"organisation {number % organisations}"


def found_many(folder: Path, members: int, *, organisations: int, floors: FloorTerms) -> None:
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
                identity_key=key_of(name).public_key,
            )
            for number, name in enumerate(others_of(members), 1)
        ]
        everyone = sorted((*draft.members, *others), key=lambda member: member.name)
        return drafting.revised(draft, members=tuple(everyone))

    drafting.change(root, let_in)
    authority.sign_epoch(root)
    for place, request in requests.items():
        site.install(place, authority.approve(root, request), root=pin)
    settings = {
        "version": 1,
        "rounds": 1,
        "release_without_any_heldout_measurement": True,
        "plan": inprocess.PLAN,
    }
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
        self.round = OngoingRound(1, {VICTIM: node_id(VICTIM)}, {})
        self.context = attempt_context(self.federation, self.round)
        self._state = shim.new_context(run=7, node=node_id(VICTIM), run_config={})
        shim.identify(run=7, node=shim.COORDINATOR_NODE)
        inprocess.store_update(member, self.federation, 1, 0.001)

    def ask(self, phase: Phase, content: RecordDict) -> Message:
        """What the member's own app answers."""
        message = Message(content, node_id(VICTIM), phase.message_type)
        shim.stamp(message)
        made = decode_message(inprocess.joined(encode_message(message)))
        token: Token[RealMember] = MEMBER.set(self.member)
        try:
            return app(made, self._state)
        finally:
            MEMBER.reset(token)

    def propose(self, context: RoundContext | None = None) -> Message:
        proposal = Proposal(
            context=context or self.context,
            plan=self.federation.plan,
            provenance=self.federation.records.provenance(after=self.member.newest_release()),
        )
        return self.ask(Phase.TRAIN, proposal.pack())

    def roster(self, names: Sequence[str], context: RoundContext | None = None) -> bytes:
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

    def share(self, names: Sequence[str], context: RoundContext | None = None) -> Message:
        return self.ask(Phase.SHARE, pack({"roster": self.roster(names, context)}))


class _Claimed:
    def __init__(self, *, quorum: int, threshold: int, degree: int) -> None:
        self.quorum, self.threshold, self.degree = quorum, threshold, degree


def advertised(name: str, context: RoundContext) -> Advertisement:
    """A colluder's sound advertisement, signed with its true key."""
    secret = hashlib.sha256(name.encode()).digest()
    return Advertisement(
        ctx=context.digest(),
        name=name,
        exchange=public_key(secret[::-1]),
        masking=public_key(bytes(byte ^ 0x5A for byte in secret)),
        commitment=secret,
        nonce=bytes(32),
    ).signed(key_of(name))


def refused_as(reply: Message) -> str:
    return str(reply.error.reason) if reply.has_error() else "answered"


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
