"""The head of a member's privacy ledger at some time, signed by the member, so that others can keep it.

A ledger that is deleted, copied or restored from a backup forgets what was spent, and its machine alone cannot always
notice. So a member signs its ledger's head with its identity key and sends it with its answers. The coordinator keeps
the newest and returns it with each offer. The coordinator cannot forge a head. It can withhold one; against that, the
member uses the releases, which it verifies itself (see docs/adr/0021).

A head does not depend on training data and reveals no more than the rounds' messages: the number of rows, the number of
charged rounds, a hash over them. It contains no epsilon.
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
    """The state of a ledger: it had `sequence` rows, the newest with `digest`, and `charges` charged rounds.

    `generation` counts how often lost charges were charged again: a ledger of a later generation replaces all of an
    earlier one. `before` are some earlier rows and their digests, which show how far two ledgers agree."""

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
        """The key by which heads of one member are ordered: the greater is the newer one."""
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
        """The head in `data`, after a check that this member signed it. Raises ConfigurationError for anything else."""
        what = f"the ledger head of {member}"
        signed = decode(cls, data, limit=MAX_HEAD_BYTES, what=what)
        if (signed.head.federation, signed.head.member) != (federation, member):
            raise ConfigurationError(f"{what} is another member's")
        require_signature(public_key, LABEL, encode(signed.head), signed.signature, what=what)
        return signed
