"""How far a member's privacy ledger once stood, signed by the member, so that others can keep it.

A ledger that is restored from a backup, deleted or copied forgets what was spent, and its machine alone cannot always
tell. So a member signs its ledger's head with its identity key and sends it along; the coordinator keeps the newest and
hands it back with each offer. The coordinator cannot make one up; it can withhold one, which the releases answer that
the member verifies itself (see docs/adr/0021).

A head depends on no data, and tells no more than the messages of the rounds do: how many rows there are, how many
rounds are charged, a hash over them. No epsilon stands in it.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from sordino_platform.canonical import (
    Digest,
    Document,
    Name,
    Signature,
    decode,
    encode,
    require_signature,
    sign,
)
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.signing import Signer

LABEL = "sordino-ledger-head/1"
MAX_HEAD_BYTES = 8192


class LedgerHead(Document):
    """Where a ledger stood: `sequence` rows, the newest with `digest`; `charges` rounds that were charged. `generation`
    counts how often what was lost was charged anew: a ledger of a later generation replaces all of an earlier one.
    `before` are some earlier rows and their digests: how far two ledgers are one."""

    version: Literal["sordino-ledger-head/1"] = "sordino-ledger-head/1"
    federation: Name
    member: Name
    generation: int = Field(ge=0, lt=1 << 32)
    sequence: int = Field(ge=0, lt=1 << 62)
    charges: int = Field(ge=0, lt=1 << 62)
    digest: Digest
    before: tuple[tuple[int, Digest], ...] = Field(default=(), max_length=64)

    @property
    def age(self) -> tuple[int, int]:
        """What makes one head newer than another of the same member."""
        return self.generation, self.sequence


class SignedLedgerHead(Document):
    """A head and its member's signature."""

    head: LedgerHead
    signature: Signature

    @classmethod
    def sign(cls, head: LedgerHead, key: Signer) -> Self:
        """Signs with the member's identity key."""
        return cls(head=head, signature=sign(key, LABEL, encode(head)))

    @classmethod
    def parse(cls, data: bytes, *, federation: str, member: str, public_key: bytes) -> Self:
        """The head in `data`, verified to be this member's own. Raises ConfigurationError for anything else."""
        what = f"the ledger head of {member}"
        signed = decode(cls, data, limit=MAX_HEAD_BYTES, what=what)
        if (signed.head.federation, signed.head.member) != (federation, member):
            raise ConfigurationError(f"{what} is another member's")
        require_signature(public_key, LABEL, encode(signed.head), signed.signature, what=what)
        return signed
