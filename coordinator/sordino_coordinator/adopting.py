"""`sordino coordinator adopt`: a coordinator that was restored from an older backup takes its own newer history back.

Members hold what it signed before, and what the backup no longer has. Every member that connects is asked for the
charters and manifests that are missing here. Nothing that a member sends is believed on its word. A charter counts if
the root signed it. A manifest counts if this coordinator signed it and it stands in its place in the chain. The newest
vector counts if it has the hash that its manifest signs. All members must tell one history, and what is held here must
be its beginning. Two different releases of one number mean that a second coordinator ran, and no command may choose
between them.

Then, in one step: the releases are kept, and a further one is signed that restores the newest. So the run is new, and
no round's number means two things. The state of a server optimiser begins anew, because members do not hold it.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sordino_coordinator.boundary import Answered, MemberReply
from sordino_coordinator.control.audit import Action, AuditLog
from sordino_coordinator.exchange import exchange
from sordino_coordinator.folder_lock import take_lock
from sordino_coordinator.grid import LinkGrid
from sordino_coordinator.settings import load_coordinator_settings
from sordino_coordinator.tenancy import Tenancy
from sordino_platform.architecture import Vector
from sordino_platform.flower import shim
from sordino_platform.flower.codec import ENVELOPE_BYTES, MAX_HEADER_BYTES
from sordino_platform.history import HISTORY, Question, Want
from sordino_platform.identity import Identity, admit
from sordino_platform.link import LinkServer, ServerTls
from sordino_platform.release import ReleaseStore, SignedManifest
from sordino_platform.release.manifest import dimension_of, require_next
from sordino_platform.release.steps import require_vector
from sordino_platform.telemetry import configure_logging, log
from sordino_privacy.errors import ConfigurationError, LinkError, SordinoError

ASK_SECONDS = 60.0
LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What was found. `releases` were taken over from what `members` hold; none when nothing was missing. `refused`
    names each member whose answer was not believed, with the reason."""

    members: tuple[str, ...]
    refused: tuple[str, ...]
    epochs: int
    releases: int
    newest: int


@dataclass(slots=True, kw_only=True)
class Told:
    """What one member told, verified as far as it goes; `problem` says why it was not believed further."""

    chain: list[SignedManifest] = field(default_factory=list)
    problem: str = ""


class Archive:
    """Adopts into one coordinator's folder what the members connected to it hold."""

    def __init__(self, folder: Path, server: LinkServer, identity: Identity) -> None:
        self._identity = identity
        self._releases = ReleaseStore(folder / "releases", identity.charters)
        self._grid = LinkGrid(server, run=1, count=lambda *_: None)
        self._refused: list[str] = []

    def adopt(self, audit: AuditLog) -> Adopted:
        """Asks all connected members, decides on one history, then keeps it. Raises ConfigurationError, LinkError,
        StorageError."""
        members = self._grid.members()
        if not members:
            raise LinkError(
                "no member is connected", hint="wait longer: --seconds; members connect by themselves"
            )
        before = len(self._identity.charters.chain())
        self._ask_charters(members)
        epochs = len(self._identity.charters.chain()) - before
        told = self._ask_manifests(members)
        held = list(self._releases.chain())
        longest = agreed(held, told)
        missing = longest[len(held) :]
        names = tuple(sorted(members))
        if not missing:
            return Adopted(
                members=names, refused=tuple(self._refused), epochs=epochs, releases=0, newest=len(held) - 1
            )
        newest = missing[-1].manifest.number
        holders = {name: members[name] for name, one in told.items() if len(one.chain) == len(longest)}
        vector = self._ask_vector(holders, missing[-1])
        for signed in missing[:-1]:
            self._releases.accept(signed.to_bytes(), None)
        self._releases.accept(missing[-1].to_bytes(), vector)
        head = self._releases.head()
        self._releases.add(
            vector,
            key=self._identity.signing_key,
            run=secrets.token_hex(16),
            heldout_loss=head.heldout_loss,
            transcript_head=head.transcript_head,
            restores=newest,
        )
        said = f"releases {len(held)} to {newest} of what {', '.join(sorted(holders))} hold"
        audit.append(Action.ADOPTED, said[:1000])
        log().info("adopted", count=len(missing), release=newest)
        return Adopted(
            members=names,
            refused=tuple(self._refused),
            epochs=epochs,
            releases=len(missing),
            newest=newest,
        )

    def _note(self, member: str, problem: str) -> None:
        self._refused.append(f"{member}: {problem}")
        log().warning("history_refused", member=member, error=problem)

    def _ask(
        self,
        nodes: Mapping[str, int],
        question: Callable[[str], Question],
        accept: Callable[[MemberReply], None],
        *,
        vector_bytes: int = 0,
    ) -> dict[str, str]:
        """Asks all of them at the same time, for an answer whose vector has `vector_bytes`. Returns, by name, why a
        member's answer was not believed, for those that gave none that could be read."""
        # Members of an older version put more into an answer: up to the size of a header.
        most = ENVELOPE_BYTES + MAX_HEADER_BYTES + vector_bytes
        problems = {}
        for item in exchange(
            self._grid,
            nodes,
            lambda name: question(name).pack(),
            accept,
            message_type=HISTORY,
            round=0,
            seconds=ASK_SECONDS,
            reply_bytes=lambda _: most,
        ):
            if not isinstance(item, Answered):
                problems[item.member] = item.error or item.reason.value
        return problems

    def _vector_bytes(self) -> int:
        return 4 * dimension_of(self._identity.charter)

    def _ask_charters(self, members: Mapping[str, int]) -> None:
        """Takes over the epochs that are missing here. The root signed them, so it does not matter which member brings
        them."""
        store, asked = self._identity.charters, dict(members)

        def came(answer: MemberReply) -> None:
            charters = answer.fields.blobs("items")
            try:
                store.accept_chain(charters)
            except SordinoError as problem:
                self._note(answer.member, problem.message)

        def question(_: str) -> Question:
            return Question(want=Want.CHARTERS, first=len(store.chain()) + 1)

        had = -1
        while len(store.chain()) > had:
            had = len(store.chain())
            for name in self._ask(asked, question, came):
                del asked[name]  # it is asked for manifests, and its problem noted then

    def _ask_manifests(self, members: Mapping[str, int]) -> dict[str, Told]:
        """The part of each member's chain that follows what is held here. Each manifest is verified before the next is
        asked for."""
        told = {name: Told(chain=list(self._releases.chain()[:-1])) for name in members}
        # What was verified behind which manifest: most members tell the same.
        known = dict[bytes, tuple[SignedManifest | None, SignedManifest]]()
        ended = set[str]()

        def came(answer: MemberReply) -> None:
            chain, items = told[answer.member].chain, answer.fields.blobs("items")
            if not items:
                ended.add(answer.member)
            for data in items:
                last = chain[-1] if chain else None
                before, signed = known.get(data, (None, None))
                if signed is None or before is not last:
                    signed = SignedManifest.parse(data)
                    require_next(chain, signed, self._identity.charters)
                    known[data] = last, signed
                chain.append(signed)

        def question(name: str) -> Question:
            return Question(want=Want.MANIFESTS, first=len(told[name].chain))

        asked = dict(members)
        while asked:
            for name, problem in self._ask(asked, question, came).items():
                told[name].problem = problem
                self._note(name, problem)
                ended.add(name)
            asked = {name: node for name, node in asked.items() if name not in ended}
        return told

    def _ask_vector(self, holders: Mapping[str, int], newest: SignedManifest) -> Vector:
        """The newest release's vector, from the first member whose bytes have the signed hash."""
        found: list[Vector] = []
        manifest = newest.manifest
        question = Question(want=Want.WEIGHTS, first=manifest.number)

        def accept(answer: MemberReply) -> None:
            vector = answer.fields.vector("weights", np.float32)
            require_vector(manifest, vector)
            found.append(vector)

        for name, node in holders.items():
            problems = self._ask({name: node}, lambda _: question, accept, vector_bytes=self._vector_bytes())
            if found:
                return found[0]
            self._note(name, next(iter(problems.values()), "it sent no model"))
        raise LinkError(
            f"no connected member has the model of release {manifest.number}",
            hint="wait for others: members that took part in its round hold it",
        )


def agreed(held: list[SignedManifest], told: Mapping[str, Told]) -> list[SignedManifest]:
    """The longest history that any member told, once all others are known to be a beginning of it. Raises
    ConfigurationError when there are two."""
    longest, teller = held, "this coordinator"
    for name, one in told.items():
        for number, (ours, theirs) in enumerate(zip(longest, one.chain, strict=False)):
            if ours != theirs:
                raise ConfigurationError(
                    f"there are two different releases {number}: one at {teller}, another at {name}",
                    hint="this coordinator's key signed both. Restore the backup once more and adopt before `up`; if "
                    "that was done, a second coordinator ran: see docs/guides/backup.md",
                )
        if len(one.chain) > len(longest):
            longest, teller = one.chain, name
    return longest


def adopt_history(folder: Path, *, seconds: float) -> Adopted:
    """Listens as `up` does, waits `seconds` for the charter's members, and adopts what they hold.

    Raises StorageError when the coordinator runs, PortInUseError, ConfigurationError, LinkError.
    """
    os.umask(0o077)
    configure_logging(folder / "events.jsonl", console=False)
    lock = take_lock(folder)
    settings, identity = load_coordinator_settings(folder), Identity.load(folder)
    Tenancy(folder=folder, charters=identity.charters).require_current()

    def identify(certificate: bytes) -> str:
        role, name = admit(certificate, identity.charter)
        if role != "member":
            raise LinkError("only members connect to a coordinator")
        return name

    def still(member: str) -> None:
        if identity.charter.identity_key("member", member) is None:
            raise LinkError(f"{member!r} is not a member in epoch {identity.charter.epoch}")

    def tls() -> ServerTls:
        own = identity.tls()
        return ServerTls(key=own.private_key, certificate=own.certificate, ca=own.authority)

    server = LinkServer(settings.listen, tls=tls, identify=identify, admit=still)
    server.start()
    try:
        shim.identify(run=1, node=shim.COORDINATOR_NODE)
        until, all_members = time.monotonic() + seconds, len(identity.charter.members)
        while time.monotonic() < until and len(server.connected()) < all_members:
            time.sleep(LOOK_SECONDS)
        return Archive(folder, server, identity).adopt(AuditLog(folder, key=identity.signing_key))
    finally:
        server.stop()
        lock.close()
