"""Every decoder that a peer's bytes can reach, and true messages to begin from.

A target raises nothing but a SordinoError, whatever it is given. What a canonical decoder accepts, it must encode to
the same bytes. The true messages are made anew for each run, so that no corpus needs to be kept or brought up to date.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from flwr.app import Message
from tests.federation import inprocess
from tests.federation.forged import FORGERIES
from tests.secagg.federation import Federation, membership, signing_key
from tests.secagg.test_complaints import cheater, garbage

from sordino_platform.canonical import moment
from sordino_platform.catching_up import HistoryPart
from sordino_platform.charter import SignedCharter, shipped_model
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import HELLO, Fields, pack
from sordino_platform.history import Question, Want
from sordino_platform.identity.enrolment import EnrolmentReply, EnrolmentRequest
from sordino_platform.ledger_head import SignedLedgerHead
from sordino_platform.link import frames
from sordino_platform.offer import Offer, OfferAnswer
from sordino_platform.plans import parse_plan
from sordino_platform.proposal import Proposal
from sordino_platform.provenance import OpenedSum, Provenance
from sordino_platform.release.manifest import Manifest, SignedManifest
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import SordinoError
from sordino_privacy.secagg import BadParcelError, RoundContext, judge_complaint, verify_transcript
from sordino_privacy.secagg.complaint import Complaint, complaint_proof
from sordino_privacy.secagg.evidence import Evidence
from sordino_privacy.secagg.muster import Draw, sketch_of
from sordino_privacy.secagg.muster import MusterAnswer as Mustered
from sordino_privacy.secagg.roster import Advertisement, Roster
from sordino_privacy.secagg.shares import Delivery, Shares
from sordino_privacy.secagg.survivors import Assent, Claim, Opening, Reveal
from sordino_privacy.secagg.transcript import GENESIS, Record
from sordino_privacy.secagg.upload import UploadHeader, UploadReceipt
from sordino_privacy.signing import KeySigner

Decoder: TypeAlias = Callable[[bytes], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`decoders` are all given the same bytes; `seeds` are true messages."""

    decoders: tuple[Decoder, ...]
    seeds: tuple[bytes, ...]
    longest: int = 4096

    def __call__(self, data: bytes) -> None:
        for decoder in self.decoders:
            with contextlib.suppress(SordinoError):
                decoder(data)


def canonical(kind: Any) -> Decoder:
    """`kind.decode`, and that it has one encoding."""

    def check(data: bytes) -> None:
        assert kind.decode(data).encode() == data

    return check


@functools.cache
def attempt() -> tuple[Federation, dict[str, bytes]]:
    """A federation of four, and each message of one attempt; `e` dropped out before its upload."""
    federation, said = Federation(membership(4)), dict[str, bytes]()
    coordinator, members, me = federation.coordinator, federation.members, federation.names[0]
    for name in federation.names:
        said["advertisement"] = members[name].advertise()
        coordinator.accept_advertisement(name, said["advertisement"])
    said["roster"] = coordinator.close_advertisements()
    for name in federation.names:
        said["shares"] = members[name].share(said["roster"])
        coordinator.accept_shares(name, said["shares"])
    deliveries = coordinator.close_shares()
    said["delivery"] = deliveries[me]
    present = federation.names[:3]
    for name in present:
        frames_of = [bytes(f) for f in members[name].upload(deliveries[name], federation.updates[name])]
        said["header"], said["trailer"] = frames_of[0], frames_of[-1]
        coordinator.accept_upload(name, frames_of)
    said["claim"] = coordinator.close_uploads()
    said["presence"] = members[me].muster(said["claim"])
    alone = Mustered.decode(said["presence"])
    drawn = Draw(roster_hash=Claim.decode(said["claim"]).roster_hash, nonces=((me, alone.nonce),))
    said["draw"] = drawn.encode()
    said["sounding"] = members[me].sound(said["draw"], federation.updates[me])
    members[me].muster(replace(Claim.decode(said["claim"]), total_hash=bytes(32)).encode())
    for name in present:
        said["assent"] = members[name].survivors(said["claim"])
        coordinator.accept_survivors(name, said["assent"])
    openings = coordinator.close_survivors()
    said["opening"] = openings[me]
    for name in present:
        said["reveal"] = members[name].unmask(openings[name], federation.updates[name])
        coordinator.accept_reveal(name, said["reveal"])
    said["evidence"] = coordinator.open().evidence
    said["mustered"] = replace(Evidence.decode(said["evidence"]), draw=drawn.nonces).encode()
    said["record"] = coordinator.record(GENESIS, bytes(32))
    said["context"] = federation.context.encode()
    return federation, said


def of_members() -> Target:
    """What a coordinator reads of the protocol."""
    federation, said = attempt()
    public = federation.membership.member(federation.names[2]).public_key
    kinds = (Advertisement, Shares, UploadHeader, UploadReceipt, Assent, Complaint, Mustered)
    names = "advertisement shares header trailer assent reveal presence sounding"
    return Target(
        decoders=(*map(canonical, kinds), lambda data: Reveal.decode(data, public), sketch_of),
        seeds=tuple(said[name] for name in names.split()),
    )


def of_the_coordinator() -> Target:
    """What a member reads of the protocol."""
    federation, said = attempt()

    def delivered(data: bytes) -> None:
        assert Delivery.decode(data, federation.names[0]).encode() == data

    return Target(
        decoders=(
            delivered,
            lambda data: Roster.decode(data, federation.membership, federation.context),
            *map(canonical, (RoundContext, Claim, Opening, Record, Evidence, Draw)),
        ),
        seeds=tuple(
            said[name]
            for name in [
                "roster",
                "delivery",
                "claim",
                "opening",
                "record",
                "evidence",
                "context",
                "draw",
                "mustered",
            ]
        ),
    )


def proofs() -> Target:
    """What third parties read: complaints and transcripts, judged to the end."""
    federation = Federation(membership(6), member_types={"member-0003": cheater(lie=garbage)})
    deliveries, _ = federation.until("upload")
    complaint = b""
    try:
        federation.members["member-0001"].upload(deliveries["member-0001"], federation.updates["member-0001"])
    except BadParcelError as error:
        complaint = error.complaint
    roster = federation.coordinator.roster
    said = complaint_proof(federation.context.encode(), roster.encode(), complaint)
    _, others = attempt()

    def judged(data: bytes) -> None:
        # Signed anew, so that what is behind the signature is reached.
        read = Complaint.decode(data)
        name = read.complainer
        assert read.signed(signing_key(name)).culprit(federation.membership, roster) in (name, read.accused)

    return Target(
        decoders=(
            judged,
            lambda data: judge_complaint(data, federation.membership),
            lambda data: verify_transcript(
                [data], {federation.membership.charter_hash: federation.membership}
            ),
        ),
        seeds=(complaint, said, others["record"]),
        longest=8192,
    )


def link_frames() -> Target:
    """What either side reads of the link."""

    def check(data: bytes) -> None:
        frame = frames.decode_frame(data)
        assert frames.decode_frame(frames.encode_frame(frame)) == frame

    seeds: tuple[frames.Frame, ...] = (
        frames.Hello(
            version_min=1, version_max=1, software_version="1.0", session=bytes(16), coordinator_session=b"",
            received=3,
        ),
        frames.Welcome(version=1, software_version="1.0", session=bytes(16), awaiting=0),
        frames.MessageStart(id=1, in_reply_to=2, kind=frames.FrameKind.REPLY, total=5, deadline_millis=0),
        frames.MessageChunk(id=1, offset=0, data=b"hello"),
        frames.MessageEnd(id=1, sha256=bytes(32)),
        frames.Ack(1),
        frames.Ping(2),
        frames.Goodbye(frames.GoodbyeReason.PROTOCOL, "why"),
        frames.Renewal(b"request"),
        frames.Renewed(b"certificate"),
    )  # fmt: skip
    return Target(decoders=(check,), seeds=tuple(frames.encode_frame(seed) for seed in seeds), longest=1024)


def flower_messages() -> Target:
    """Flower's messages as both sides take them apart, through every door that there is."""
    shim.identify(run=1, node=shim.COORDINATOR_NODE)
    federation, said = attempt()
    plan = TrainingPlan.parse(inprocess.PLAN)
    ring = np.zeros(4, federation.quantiser.dtype)
    opened = OpenedSum(
        record=said["record"],
        plan=plan,
        sum=ring,
        carries=np.zeros(4, federation.quantiser.carries),
        evidence=said["evidence"],
        uploads={federation.names[0]: b"upload"},
        moments=(np.zeros(4, np.float32),),
    )
    provenance = Provenance(manifests=(b"{}",), opened=opened, model=np.zeros(4, np.float32))
    contents = [
        pack(OfferAnswer(member="alder", release=3, epoch=1, unready=None, head=b"").fields()),
        Offer(run="run", round=1, release=0, connected=5, ready=5, required=4, members=5, plan=plan).pack(),
        Proposal(context=federation.context, plan=plan, provenance=provenance).pack(),
        Question(want=Want.MANIFESTS, first=0).pack(),
        HistoryPart(first=3, newest=9, manifests=(b"{}", b"{}"), charters=(b"{}",), tenure=b"{}").pack(),
        pack({"advertisement": said["advertisement"], "epsilon": 0.5, "head": b""}),
        pack({}, {"upload": np.zeros(40, np.uint8)}),
    ]
    seeds = []
    for content in contents:
        message = Message(content, 2**40, HELLO, group_id="1")
        shim.stamp(message)
        seeds.append(inprocess.joined(encode_message(message)))
    forged = [forge(seeds[0]) for forge in FORGERIES.values()]

    def doors(data: bytes) -> None:
        message = decode_message(data)
        for door in (OfferAnswer.parse, Offer.parse, Proposal.parse, Question.parse, HistoryPart.parse, raw):
            with contextlib.suppress(SordinoError):
                door(Fields(message))

    return Target(decoders=(doors,), seeds=(*seeds, *(s for s in forged if len(s) <= 4096)))


def raw(fields: Fields) -> None:
    fields.raw("upload")
    fields.done()


def documents() -> Target:
    """Signed documents in their canonical form, and the plan."""
    with tempfile.TemporaryDirectory() as place:
        inprocess.found_in(Path(place) / "federation")
        found = {path.read_bytes() for path in Path(place).rglob("*.json")}
    plan = TrainingPlan.parse(inprocess.PLAN).canonical()
    terms = shipped_model(adapter_rank=1)
    manifest = Manifest(
        federation="test", run="run", number=0, parent=bytes(32), charter_hash=bytes(32), model=terms, dimension=9,
        weights_sha256=bytes(32), vector_hash=bytes(32), heldout_loss=2.5, made_at=moment(datetime.now(UTC)),
    )  # fmt: skip
    signer = KeySigner.of(bytes(32))
    signed = SignedManifest.sign(manifest, signer)
    seeds = sorted({*found, signed.to_bytes(), plan}, key=len)

    def head(data: bytes) -> None:
        SignedLedgerHead.parse(data, federation="test", member="alder", public_key=signer.public_key)

    parsers: tuple[Decoder, ...] = (
        SignedCharter.parse_unverified,
        SignedManifest.parse,
        EnrolmentRequest.parse,
        EnrolmentReply.parse,
        head,
        parse_plan,
    )
    trees = [json.loads(seed) for seed in seeds]
    values: tuple[object, ...] = (
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z", 1e308, -1, 2**70, -0.0,
        1e-320, "", "\x00", "\u00e9", "f" * 64, None, True, [], {}, [[]],
    )  # fmt: skip

    def altered(data: bytes) -> None:
        """A true document in its canonical form but for one value: what random bytes hardly ever reach."""
        if len(data) < 4:
            return
        tree = copy.deepcopy(trees[data[0] % len(trees)])
        places = list(leaves(tree))
        holder, key = places[int.from_bytes(data[1:3]) % len(places)]
        with contextlib.suppress(
            ValueError, RecursionError
        ):  # what follows is the value, or its number in the list
            holder[key] = values[data[3] % len(values)] if len(data) == 4 else json.loads(data[3:])
            text = (json.dumps(tree, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")
            for parse in parsers:
                with contextlib.suppress(SordinoError):
                    parse(text)

    return Target(decoders=(*parsers, altered), seeds=(*seeds, b"[" * 5000), longest=8192)


def leaves(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each value of a JSON document that holds no others, as its holder and key."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list) and value:
            yield from leaves(value)
        else:
            yield tree, key


TARGETS: dict[str, Callable[[], Target]] = {
    "of_members": of_members,
    "of_the_coordinator": of_the_coordinator,
    "proofs": proofs,
    "link_frames": link_frames,
    "flower_messages": flower_messages,
    "documents": documents,
}
