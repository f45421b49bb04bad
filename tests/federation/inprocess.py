"""A Flower grid without processes: real members, folders and ClientApp; only the wire and the training are absent.

Training is replaced by an update that the test wrote to where a finished one lies, so that a round takes milliseconds
and the sum is known in advance.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from flwr.app import Context, Message

from sordino_client.round.addressee import MEMBER
from sordino_client.round.app import app
from sordino_client.round.member import Member
from sordino_coordinator.addressed_grid import AddressedGrid
from sordino_coordinator.federation import Federation
from sordino_platform.charter import (
    FloorTerms,
    HuggingFaceTerms,
    ModelTerms,
    PrivacyPolicy,
    SharedMemoryPolicy,
    shipped_model,
)
from sordino_platform.durable import make_folder, write_file
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import STREAMED, node_id
from sordino_platform.identity.ceremony import found_in_folder
from sordino_platform.link.messages import Payload, StreamedPart, parts_of, views
from sordino_platform.pkcs11 import Pkcs11Uri
from sordino_platform.proposal import quantiser_for
from sordino_platform.settings import toml_text
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.keystream import Keystream
from sordino_privacy.secagg import MaskedStatistics, Quantised

NAMES = ("alder", "birch", "cedar", "dogwood", "elm")
PLAN = {
    "sampling_rate": 0.1,
    "noise_multiplier": 1.0,
    "clip_norm": 0.5,
    "steps": 1,
    "windows_per_unit": 2,
    "window": 64,
    "learning_rate": 0.1,
    "optimiser": "sgd",
    "delta": 1e-6,
    "expected_units": 8,
}


def found_in(
    folder: Path,
    *,
    cohort: int = 4,
    names: Sequence[str] = NAMES,
    organisations: Mapping[str, str] | None = None,
    model: ModelTerms | HuggingFaceTerms | None = None,
    of_members: Mapping[str, object] | None = None,
    privacy: PrivacyPolicy | None = None,
    shared_memory: SharedMemoryPolicy | None = None,
    floors: FloorTerms | None = None,
    keys: Mapping[str, Pkcs11Uri] | None = None,
    **settings: object,
) -> None:
    """Members (five of five organisations, if nobody says otherwise), their settings and the coordinator's.

    `settings` come on top of the coordinator's, `of_members` on top of each member's; `keys` are whose is in a token.
    """
    known = organisations or {}
    foundation = found_in_folder(
        folder,
        federation="test",
        members=[(name, known.get(name, f"{name} ltd")) for name in names],
        model=model or shipped_model(adapter_rank=1),
        floors=floors or FloorTerms(cohort=cohort),
        privacy=privacy or PrivacyPolicy(),
        shared_memory=shared_memory,
        keys=keys,
    )
    coordinator = {
        "version": 1,
        "rounds": 1,
        "gather_seconds": 0.0,
        "exchange_seconds": 6.0,
        "backoff_seconds": 0.0,
        "give_up_after": 0,
        "release_without_any_heldout_measurement": True,
        **settings,
        "plan": PLAN,
    }
    write_file(
        foundation.coordinator / "coordinator.toml", toml_text(coordinator, comments={}).encode(), secret=True
    )
    for name, place in foundation.members.items():
        member: dict[str, object] = {
            "version": 1,
            "name": name,
            "coordinator": "127.0.0.1:1",
            "repositories": [str(folder)],
            # Rounds of years in seconds: who tests a day's caps sets them.
            "epsilon_per_day": 1000.0,
            "rounds_per_day": 100_000,
            **(of_members or {}),
        }
        write_file(place / "member.toml", toml_text(member, comments={}).encode(), secret=True)


def give_code(folder: Path, code: Path, text: Callable[[int], str], *, modules: int = 8) -> None:
    """Gives each member `modules` modules of its own, in place of the whole federation's folder; `text` makes the one
    of a number."""
    for index, name in enumerate(NAMES):
        for number in range(modules):
            part = code / name / f"part{number}"
            part.mkdir(parents=True)
            (part / "module.py").write_text(text(modules * index + number))
        settings = folder / "members" / name / "member.toml"
        said = settings.read_text()
        settings.write_text(said.replace(json.dumps([str(folder)]), json.dumps([str(code / name)])))


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[dict[str, Member]]:
    """All members, open."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Member.open(folder / "members" / name)) for name in NAMES}


def store_update(member: Member, federation: Federation, round: int, value: float) -> Quantised:
    """Puts a quantised update of constant `value` where training would leave it, and the agreement beside it."""
    membership = federation.membership
    quantiser = quantiser_for(
        federation.config, federation.plan, members=len(membership.members), shares=membership.shares
    )
    vector = np.full(quantiser.dimension, value, dtype=np.float32)
    if membership.shares > 1:
        noise = member.noise(federation.plan)
        assert noise is not None
        # As the trainer leaves it: in units of the clip, before the division and the step.
        plan = federation.plan
        assert isinstance(plan, TrainingPlan)
        clips = vector / (plan.learning_rate * plan.clip_norm / plan.expected_units)
        ring = (noise.release(clips, Keystream.from_system()) & 0xFFFFFFFF).astype("<u4")
        quantised = quantiser.embed(ring, 8, secrets.token_bytes)
    else:
        quantised = quantiser.quantise(vector, 1.0, MaskedStatistics(examples=8), secrets.token_bytes)
    place = member.folder / "round" / f"{federation.run}-{round}"
    make_folder(place)
    write_file(place / "quantised.bin", quantised.encode(), secret=True)
    return quantised


def joined(parts: Payload) -> bytes:
    return b"".join(views(parts_of(parts)))


class InProcessGrid(AddressedGrid):
    """Calls each member's app when its reply is pulled; `absent` holds (message type, member) that stay silent."""

    def __init__(self, members: dict[str, Member], *, run: int) -> None:
        self.members = members
        self.absent: set[tuple[str, str]] = set()
        self.streams = True
        """Whether replies are sent as the agent sends them, made while they go, or whole, as under Flower's runners."""
        self.seen: list[tuple[str, str]] = []
        self.on_message: Callable[[str], object] = len  # told each message's type before its member answers
        self._names = {node_id(name): name for name in members}
        self._contexts: dict[str, Context] = {
            name: shim.new_context(run=run, node=node_id(name), run_config={}) for name in members
        }
        self._waiting: dict[str, bytes] = {}
        self._run = shim.empty_run(run)
        shim.identify(run=run, node=shim.COORDINATOR_NODE)

    def leave(self, name: str) -> None:
        """The member `name` is gone."""
        del self.members[name]
        self._names = {node: other for node, other in self._names.items() if other != name}

    def set_run(self, run: shim.Run) -> None:
        self._run = run

    @property
    def run(self) -> shim.Run:
        return self._run

    def get_node_ids(self) -> Iterable[int]:
        return list(self._names)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        sent = []
        for message in messages:
            sent.append(shim.stamp(message))
            self._waiting[sent[-1]] = joined(encode_message(message))
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message_id in message_ids:
            payload = self._waiting.pop(message_id, None)
            if payload is None:
                continue
            message = decode_message(payload)
            name = self._names[message.metadata.dst_node_id]
            self.seen.append((message.metadata.message_type, name))
            self.on_message(message.metadata.message_type)
            if (message.metadata.message_type, name) in self.absent:
                continue
            streamed: dict[str, StreamedPart] | None = {} if self.streams else None
            tokens = MEMBER.set(self.members[name]), STREAMED.set(streamed)
            try:
                reply = app(message, self._contexts[name])
            finally:
                MEMBER.reset(tokens[0])
                STREAMED.reset(tokens[1])
            return [decode_message(joined(encode_message(reply, streamed)))]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        waiting = list(self.push_messages(messages))
        return [reply for _ in waiting for reply in self.pull_messages(waiting)]
