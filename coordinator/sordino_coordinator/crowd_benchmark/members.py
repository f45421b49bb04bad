"""Many light members in one process: `python -m sordino_coordinator.crowd_benchmark.members FOLDER FIRST COUNT`.

Each has its own identity, certificate, link and protocol session. Commands come as lines of JSON on stdin; each is
answered by one line on stdout:

{"do": "connect", "address": "127.0.0.1:9443"}            every member that has no link opens one
{"do": "drop", "phase": "masked_input", "names": [...]}   these leave without an answer when that phase asks them
{"do": "count"}                                           how many are connected, this process's processor seconds
"""

from __future__ import annotations

import gc
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message

from sordino_coordinator.crowd_benchmark.links import CrowdLink, LeavesError, LinkThread
from sordino_coordinator.crowd_benchmark.place import member_name
from sordino_platform.bench.world import VolatileJournal
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import STREAMED, Fields, Phase, Scalar, pack
from sordino_platform.identity import Identity
from sordino_platform.identity.site import IDENTITY_KEY, TLS
from sordino_platform.keys import load_identity_key, load_tls_key, private_pem
from sordino_platform.link import ClientTls
from sordino_platform.link.messages import Payload, StreamedPart
from sordino_platform.plans import parse_plan
from sordino_platform.proposal import SIZE_BUCKETS, quantiser_for
from sordino_platform.provenance import Provenance
from sordino_platform.release.manifest import SignedManifest
from sordino_platform.uploads import SentUpload
from sordino_privacy.errors import LinkError
from sordino_privacy.secagg import MaskedStatistics, MemberSession, Membership, Quantised, RoundContext

DEVIATION = 1e-7


class CrowdShared:
    """What all members of one process have in common: the charter, and one update, quantised once.

    Every member sends the same integers. Their masks differ, and so does everything that travels.
    """

    def __init__(self, folder: Path) -> None:
        charter = Identity.load(folder / "coordinator").charter
        self.membership: Membership = charter.membership()
        self.config = charter.model.config()
        self.epoch = charter.epoch
        self.authority = b"".join(issuer.pem for issuer in charter.issuers("coordinator"))
        self._update: Quantised | None = None

    def update(self, plan: bytes) -> Quantised:
        """The update under a plan: within its ranges, far below its norm."""
        if self._update is None:
            parsed = parse_plan(plan)
            quantiser = quantiser_for(self.config, parsed, members=len(self.membership.members))
            vector = np.random.default_rng(0).normal(0, DEVIATION, quantiser.dimension).astype(np.float32)
            statistics = MaskedStatistics(examples=SIZE_BUCKETS)
            self._update = quantiser.quantise(vector, 1.0, statistics, secrets.token_bytes)
        return self._update


class LightMember:
    """One member: answers what a coordinator asks, as the protocol wants it."""

    def __init__(self, folder: Path, name: str, shared: CrowdShared) -> None:
        self.name, self._folder, self._shared = name, folder, shared
        self._key = load_identity_key(folder / IDENTITY_KEY)
        self._release = -1
        self._session: MemberSession | None = None
        self._plan = b""
        self._sent = SentUpload(folder / "sent.bin")
        self._link: CrowdLink | None = None
        self.leaves_at: str | None = None

    @property
    def connected(self) -> bool:
        """Whether its link stands."""
        return self._link is not None and self._link.connected

    def link(self, thread: LinkThread, address: str) -> CrowdLink | None:
        """A link that is to be opened, unless there is one."""
        if self._link is not None and not self._link.over:
            return None
        pem = (self._folder / TLS).read_bytes()
        tls = ClientTls(
            key=private_pem(load_tls_key(self._folder / TLS)),
            certificate=pem[pem.index(b"-----BEGIN CERTIFICATE") :],
            ca=self._shared.authority,
        )
        self._link = CrowdLink(thread, address, tls=tls, answer=self.answer)
        return self._link

    def answer(self, payload: memoryview) -> Payload:
        """The answer to one message of the coordinator. Raises LeavesError in the phase in which this member leaves."""
        message = decode_message(payload)
        shim.identify(run=message.metadata.run_id, node=message.metadata.dst_node_id)
        kind = message.metadata.message_type.partition(".")[2]
        if kind == self.leaves_at:
            self.leaves_at = None
            raise LeavesError
        streamed: dict[str, StreamedPart] = {}
        STREAMED.set(streamed)
        scalars, vectors = self._said(kind, Fields(message))
        return encode_message(Message(pack(scalars, vectors), reply_to=message), streamed)

    def _said(self, kind: str, fields: Fields) -> tuple[dict[str, Scalar], dict[str, StreamedPart]]:
        shared = self._shared
        match kind:
            case "hello":
                fields.drop()
                return {
                    "member": self.name, "release": self._release, "epoch": shared.epoch, "unready": "", "head": b"",
                }, {}  # fmt: skip
            case Phase.TRAIN:
                context, self._plan = RoundContext.decode(fields.blob("context")), fields.blob("plan")
                fields.drop()
                self._session = MemberSession(
                    self.name, self._key, shared.membership, context, VolatileJournal(), secrets.token_bytes
                )
                return {"advertisement": self._session.advertise(), "epsilon": 0.0, "head": b""}, {}
            case Phase.RESULT:
                newest = Provenance.parse(fields).manifests[-1]
                self._release = SignedManifest.parse(newest).manifest.number
                return {"release": self._release}, {}
        session = self._session
        if session is None:
            raise LinkError("no round is under way")
        match kind:
            case Phase.SHARE:
                return {"shares": session.share(fields.blob("roster"))}, {}
            case Phase.UPLOAD:
                update = shared.update(self._plan)
                session.upload(fields.blob("delivery"), update)
                made = StreamedPart(
                    nbytes=session.upload_bytes,
                    pieces=lambda: self._sent.keeping(session.upload_again(update)),
                )
                return {}, {"upload": made}
            case Phase.MUSTER:
                return {"presence": session.muster(fields.blob("claim"))}, {}
            case Phase.SOUND:
                update = shared.update(self._plan)
                return {"sounding": session.sound(fields.blob("draw"), update, sent=self._sent.read())}, {}
            case Phase.SURVIVORS:
                return {"signature": session.survivors(fields.blob("claim"))}, {}
            case Phase.UNMASK:
                self._session = None
                update, sent = shared.update(self._plan), self._sent.read()
                reveal = session.unmask(fields.blob("opening"), update, sent=sent)
                self._sent.forget()
                return {"reveal": reveal}, {}
        raise LinkError(f"nothing is known of {kind[:40]!r}")


def main(folder: Path, first: int, count: int) -> None:
    """Carries out the commands on stdin until it ends."""
    # A member has a process of its own, and one session in it. Here the collector would look through five hundred.
    gc.disable()
    shared, thread = CrowdShared(folder), LinkThread()
    members = {
        name: LightMember(folder / "members" / name, name, shared)
        for name in (member_name(number) for number in range(first, first + count))
    }
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        if order["do"] == "connect":
            asked = (member.link(thread, order["address"]) for member in members.values())
            thread.open(link for link in asked if link is not None)
        elif order["do"] == "drop":
            for name in order["names"]:
                if name in members:
                    members[name].leaves_at = order["phase"]
        answer = {
            "connected": sum(member.connected for member in members.values()),
            "seconds": time.process_time(),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
