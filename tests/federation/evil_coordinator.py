"""A coordinator with its true key and bad intent, and everybody but one real member: what the tests drive.

The victim is real: folder, ledger, releases, ClientApp. All others are protocol sessions with their true keys: rounds
complete, releases follow, and whatever is told to the victim besides is well-formed. `truth` holds the hash of every
vector that a founding, a round or a rollback really made.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict
from tests.federation import inprocess
from tests.federation.hub import VICTIM, key_of, others_of

from sordino_client.ledger import LedgerRefusesError
from sordino_client.recovery import recover
from sordino_client.round.addressee import MEMBER
from sordino_client.round.app import app
from sordino_client.round.member import Member
from sordino_client.round.participation import UnwillingError
from sordino_coordinator.attempt import attempt_context
from sordino_coordinator.federation import Federation
from sordino_coordinator.ongoing import OngoingRound
from sordino_coordinator.releasing import commit_release
from sordino_platform.architecture import Vector
from sordino_platform.bench.world import VolatileJournal
from sordino_platform.charter import SignedCharter
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import Fields, Phase, node_id, pack
from sordino_platform.identity import authority
from sordino_platform.proposal import Proposal, quantiser_for
from sordino_platform.provenance import Provenance, packed
from sordino_platform.release import Manifest, SignedManifest, vector_hash
from sordino_platform.release.weights import file_sha256
from sordino_privacy.secagg import (
    CoordinatorSession,
    MaskedStatistics,
    MemberSession,
    Quantised,
    RoundContext,
)

MEMBERS = 5
COLLUDERS = others_of(MEMBERS)


class ForgetfulJournal(VolatileJournal):
    """A colluder's journal: it remembers no epoch that it does not like to."""

    def highest_epoch(self, federation: str) -> int:
        return 0


def folder_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of every file. SQLite's shared-memory index is none of the content."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith("-shm"):
            found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


class Attempt:
    """One attempt as it goes on among the colluders, with the victim as long as it answers."""

    def __init__(self, evil: EvilCoordinator, context: RoundContext) -> None:
        membership, key = evil.federation.membership, key_of
        self.context, self.evil = context, evil
        self.session = CoordinatorSession(membership, context)
        self.peers = {
            name: MemberSession(name, key(name), membership, context, ForgetfulJournal(), secrets.token_bytes)
            for name in COLLUDERS
        }
        self.victim = b""  # its last reply's message; empty once it refused
        self.stage = 0

    def advance(self) -> Message | None:
        """The next phase, honestly: the victim first, then all colluders. The victim's reply; None after the last."""
        steps = (self._share, self._upload, self._survivors, self._unmask)
        if self.stage >= len(steps):
            return None
        self.stage += 1
        return steps[self.stage - 1]()

    def _tell(self, phase: Phase, name: str, message: bytes, answer: str) -> Message | None:
        if not self.victim:
            return None
        reply = self.evil.ask(phase, pack({name: message}))
        self.victim = b"" if reply.has_error() else self._content(reply, answer)
        return reply

    @staticmethod
    def _content(reply: Message, answer: str) -> bytes:
        fields = Fields(reply)
        return bytes(fields.raw(answer)) if answer == "upload" else fields.blob(answer)

    def _share(self) -> Message | None:
        if self.victim:
            self.session.accept_advertisement(VICTIM, self.victim)
        for name, peer in self.peers.items():
            self.session.accept_advertisement(name, peer.advertise())
        roster = self.evil.keep("roster", self.session.close_advertisements())
        reply = self._tell(Phase.SHARE, "roster", roster, "shares")
        if self.victim:
            self.session.accept_shares(VICTIM, self.victim)
        for name, peer in self.peers.items():
            self.session.accept_shares(name, peer.share(roster))
        return reply

    def _upload(self) -> Message | None:
        parcels = self.session.close_shares()
        reply = None
        if self.victim:
            delivery = self.evil.keep("delivery", parcels[VICTIM])
            reply = self._tell(Phase.UPLOAD, "delivery", delivery, "upload")
            if self.victim:
                self.session.accept_upload(VICTIM, [self.victim])
        for name, peer in self.peers.items():
            frames = list(peer.upload(parcels[name], self.evil.update(self.context)))
            self.session.accept_upload(name, [bytes(frame) for frame in frames])
        return reply

    def _survivors(self) -> Message | None:
        claim = self.evil.keep("claim", self.session.close_uploads())
        reply = self._tell(Phase.SURVIVORS, "claim", claim, "signature")
        if self.victim:
            self.session.accept_survivors(VICTIM, self.victim)
        for name, peer in self.peers.items():
            self.session.accept_survivors(name, peer.survivors(claim))
        return reply

    def _unmask(self) -> Message | None:
        openings = self.session.close_survivors()
        reply = None
        if self.victim and VICTIM in openings:
            opening = self.evil.keep("opening", openings[VICTIM])
            reply = self._tell(Phase.UNMASK, "opening", opening, "reveal")
            if self.victim:
                self.session.accept_reveal(VICTIM, self.victim)
        for name, peer in self.peers.items():
            self.session.accept_reveal(name, peer.unmask(openings[name], self.evil.update(self.context)))
        opened = self.session.open()
        commit_release(self.evil.federation, self.context.round, self.session, opened)
        self.evil.truth.add(self.evil.federation.model_hash())
        return reply


class EvilCoordinator:
    """See the module. `replies` is what the victim's app answered, with the phase."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._stack = folder, ExitStack()
        self.federation = Federation.open(folder / "coordinator")
        self.truth = {self.federation.model_hash()}
        self.pool: dict[str, list[bytes]] = {"roster": [], "delivery": [], "claim": [], "opening": []}
        self.round = 0
        self.attempt: Attempt | None = None
        self.listeners: list[Callable[[Phase | str, Message], None]] = []
        self._copies = 0
        self._updates: dict[bytes, Quantised] = {}
        shim.identify(run=7, node=shim.COORDINATOR_NODE)
        self.open()

    # ---------------------------------------------------------------------------------------------- the victim's life

    @property
    def home(self) -> Path:
        return self.folder / "member"

    def open(self) -> None:
        self.member = self._stack.enter_context(Member.open(self.home))
        self._state = shim.new_context(run=7, node=node_id(VICTIM), run_config={})

    def close(self) -> None:
        self._stack.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def copy(self) -> None:
        """A backup of the victim's folder, as it is after a clean end."""
        self.close()
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self.home, self.folder / "copy")
        self.open()

    def restore(self) -> None:
        """The copy put back; where its ledger is behind and refuses, its owner has what was lost charged anew."""
        if (self.folder / "copy").exists():
            self.close()
            shutil.rmtree(self.home)
            shutil.copytree(self.folder / "copy", self.home)
            try:
                self.open()
            except LedgerRefusesError:
                recover(self.home)
                self.open()

    # ------------------------------------------------------------------------------------------------------- messages

    def ask(self, phase: Phase | str, content: RecordDict) -> Message:
        """What the victim's own app answers."""
        kind = phase.message_type if isinstance(phase, Phase) else phase
        message = Message(content, node_id(VICTIM), kind)
        shim.stamp(message)
        made = decode_message(inprocess.joined(encode_message(message)))
        token = MEMBER.set(self.member)
        try:
            reply = app(made, self._state)
        finally:
            MEMBER.reset(token)
        for listener in self.listeners:
            listener(phase, reply)
        return reply

    def keep(self, kind: str, message: bytes) -> bytes:
        self.pool[kind].append(message)
        return message

    def update(self, context: RoundContext) -> Quantised:
        """A colluder's update, the same in every round of one plan."""
        key = context.quantiser.digest()
        if key not in self._updates:
            vector = np.full(context.quantiser.dimension, 0.0005, dtype=np.float32)
            self._updates[key] = context.quantiser.quantise(
                vector, 1.0, MaskedStatistics(examples=8), secrets.token_bytes
            )
        return self._updates[key]

    def begin(self, *, again: bool = False) -> Attempt:
        """The next round, or (`again`) the next attempt of the present one, before anybody is told of it."""
        number = self.attempt.context.attempt + 1 if again and self.attempt else 0
        if not number:
            self.round += 1
        federation = self.federation
        round = OngoingRound(self.round, {VICTIM: node_id(VICTIM)}, {})
        round.attempt = number
        self.attempt = Attempt(self, attempt_context(self.federation, round))
        stored = (self.home / "round" / f"{federation.run}-{self.round}" / "quantised.bin").exists()
        if not stored and self.willing():
            inprocess.store_update(self.member, federation, self.round, 0.001)
        return self.attempt

    def willing(self) -> bool:
        """Whether the victim's owner lets it train in the present round; then what training leaves is put there."""
        plan = self.federation.training.digest()
        try:
            self.member.participation.require_willing(wanted=(self.federation.run, self.round, plan))
        except UnwillingError:
            return False
        return True

    def propose(self, **lies: Any) -> Message:
        """TRAIN for the present attempt; `lies` replace fields of the proposal."""
        assert self.attempt is not None
        truth = Proposal(
            context=self.attempt.context,
            plan=self.federation.training,
            provenance=self.federation.records.provenance(after=self.member.newest_release()),
        )
        reply = self.ask(Phase.TRAIN, replace(truth, **lies).pack())
        self.attempt.victim = b"" if reply.has_error() else Fields(reply).blob("advertisement")
        return reply

    def result(self, provenance: Provenance | None = None) -> Message:
        shown = provenance or self.federation.records.provenance(
            after=self.federation.releases.head().number - 1
        )
        assert shown is not None
        return self.ask(Phase.RESULT, pack(*packed(shown, {})))

    def signed(self, vector: Vector, **fields: Any) -> bytes:
        """A manifest after the newest one, over any vector, signed with the true key."""
        head = self.federation.releases.head()
        made = head.model_copy(
            update={
                "number": head.number + 1,
                "parent": head.hash(),
                "vector_hash": vector_hash(vector),
                "weights_sha256": file_sha256(vector),
                "round": None,
                "members": (),
                "restores": None,
                **fields,
            }
        )
        return SignedManifest.sign(Manifest(**dict(made)), self.federation.identity.signing_key).to_bytes()

    def poison(self) -> Vector:
        """Weights that nobody made."""
        vector = self.federation.weights().copy()
        vector[: 1 + secrets.randbelow(9)] += np.float32(0.01)
        return vector

    def poisoned_context(self, vector: Vector) -> RoundContext:
        assert self.attempt is not None
        return replace(self.attempt.context, model_hash=vector_hash(vector))

    def replacing_epoch(self) -> bytes:
        """A root-signed epoch in which nobody but the victim is who it was."""
        root = self.folder / "root"
        authority.begin_epoch(root)
        authority.retire(root, COLLUDERS[-1])
        return authority.sign_epoch(root).to_bytes()

    def context_under(self, epoch: bytes) -> RoundContext:
        """The present attempt's context, under another epoch."""
        assert self.attempt is not None
        said, charter = self.attempt.context, SignedCharter.parse_unverified(epoch).charter
        return RoundContext.under(
            charter.membership(),
            run=said.run,
            round=said.round,
            attempt=said.attempt,
            server_nonce=said.server_nonce,
            model_hash=said.model_hash,
            train_config_hash=said.train_config_hash,
            quantiser=quantiser_for(
                self.federation.config, self.federation.training, members=len(charter.members)
            ),
        )

    def other_plan(self) -> dict[str, Any]:
        """Fields of a proposal that is right in everything but that its plan is another than was offered."""
        assert self.attempt is not None
        plan = replace(self.federation.training, steps=self.federation.training.steps + 1)
        quantiser = quantiser_for(self.federation.config, plan, members=MEMBERS)
        context = replace(self.attempt.context, train_config_hash=plan.digest(), quantiser=quantiser)
        return {"plan": plan, "context": context}
