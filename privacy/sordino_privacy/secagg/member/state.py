"""The state of a member's session, and its canonical form for moving it between processes.

It holds secrets. Nothing but `MemberSession` uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

from sordino_privacy.secagg.encoding import KEY_BYTES, MAX_MESSAGE_BYTES, MessageReader, Writer, digest
from sordino_privacy.secagg.refusals import MalformedError

KIND = 35
# In the order of the encoding; empty if the session has not got that far.
BLOBS = (
    "exchange_key",
    "pair_seed",
    "self_seed",
    "advertisement",
    "roster",
    "update",
    "receipt",
    "claim",
    "nonce",
    "sounding",
    "agreed",
    "masks",
    "request",
    "reply",
)


class SessionPhase(IntEnum):
    """Where a member's session stands: the last phase it completed."""

    READY = 0
    ADVERTISED = 1
    SHARED = 2
    UPLOADED = 3
    MUSTERED = 4
    SOUNDED = 5
    AGREED = 6
    DONE = 7
    ABORTED = 8


@dataclass(slots=True, kw_only=True, repr=False)
class SessionState:
    """`exchange_key` e, `pair_seed` s_seed, `self_seed` b_seed; `held` maps an owner to this member's shares (of
    b_seed, of s_seed); `nonce` this member's share of the challenge; `musters` how many claims it was mustered for,
    `claim` the last of them, and `sounding` its answer to that muster; `agreed` the points shared with its holders, in
    order, and `masks` the keys of its masks, kept so that they are computed only once; `request` is the hash of the
    last request answered, and `reply` the answer."""

    phase: SessionPhase = SessionPhase.READY
    exchange_key: bytes = b""
    pair_seed: bytes = b""
    self_seed: bytes = b""
    advertisement: bytes = b""
    roster: bytes = b""
    update: bytes = b""
    receipt: bytes = b""
    claim: bytes = b""
    nonce: bytes = b""
    sounding: bytes = b""
    agreed: bytes = b""
    masks: bytes = b""
    request: bytes = b""
    reply: bytes = b""
    musters: int = 0
    u2: tuple[str, ...] = ()
    held: dict[str, tuple[int, int]] = field(default_factory=dict)

    def answer(self, request: bytes, reply: bytes) -> None:
        self.request, self.reply = digest("request", request), reply

    def encode(self) -> bytes:
        writer = Writer(KIND).u8(self.phase).u8(self.musters)
        for name in BLOBS:
            writer.blob(getattr(self, name))
        writer.u16(len(self.u2))
        for name in self.u2:
            writer.name(name)
        writer.u16(len(self.held))
        for owner, shares in sorted(self.held.items()):
            writer.name(owner)
            for share in shares:
                writer.integer(share, KEY_BYTES)
        return writer.done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, KIND, limit=4 * MAX_MESSAGE_BYTES)
        phase, musters = reader.u8(), reader.u8()
        if phase > SessionPhase.ABORTED:
            raise MalformedError("the snapshot is of an unknown phase")
        state = cls(phase=SessionPhase(phase), musters=musters)
        for name in BLOBS:
            setattr(state, name, reader.blob(limit=MAX_MESSAGE_BYTES))
        state.u2 = reader.names()
        for _ in range(reader.count()):
            owner = reader.name()
            state.held[owner] = (reader.integer(KEY_BYTES), reader.integer(KEY_BYTES))
        reader.end()
        if state.encode() != message:
            raise MalformedError("the snapshot is not in its canonical order")
        return state
