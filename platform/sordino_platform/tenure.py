"""Which machine is a federation's coordinator now: a number that only rises, signed by the coordinator's own key.

The first machine has none, which counts as generation 0. Whoever takes over signs the next generation and offers it
with every round. A member keeps the highest that it has seen, and takes part in nothing under a lower one, or under
another of the same number; it shows the one it holds, and so the machine that was replaced learns of it.

This says which of two honest machines goes on. It protects nobody from a coordinator that lies: that one holds the key.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from sordino_platform.canonical import (
    Digest,
    Document,
    Moment,
    Name,
    Signature,
    decode,
    encode,
    moment,
    require_signature,
    sign,
)
from sordino_platform.durable import read_file, write_file
from sordino_platform.flower.phases import Fields
from sordino_privacy.errors import ConfigurationError, LinkError
from sordino_privacy.signing import Signer

LABEL = "sordino-tenure/1"
FILE = "tenure.json"
MAX_TENURE_BYTES = 4096


class Tenure(Document):
    """One machine's time as the coordinator. `id` is random: two machines that take the same number differ by it."""

    version: Literal["sordino-tenure/1"] = "sordino-tenure/1"
    federation: Name
    generation: int = Field(ge=1, lt=1 << 32)
    id: Digest
    begun_at: Moment


class SignedTenure(Document):
    """A tenure and the coordinator's signature."""

    tenure: Tenure
    signature: Signature

    @classmethod
    def begin(cls, *, federation: str, after: int, key: Signer) -> Self:
        """The next one after generation `after`, signed with the coordinator's identity key."""
        tenure = Tenure(
            federation=federation,
            generation=after + 1,
            id=secrets.token_bytes(32),
            begun_at=moment(datetime.now(UTC)),
        )
        return cls(tenure=tenure, signature=sign(key, LABEL, encode(tenure)))

    @classmethod
    def parse(cls, data: bytes, *, federation: str, keys: Collection[bytes]) -> Self:
        """The tenure in `data`, signed by one of the coordinator's `keys` of any epoch. Raises ConfigurationError."""
        what = "the coordinator's tenure"
        signed = decode(cls, data, limit=MAX_TENURE_BYTES, what=what)
        if signed.tenure.federation != federation:
            raise ConfigurationError(f"{what} is of another federation")
        problem: ConfigurationError | None = None
        for key in keys:
            try:
                require_signature(key, LABEL, encode(signed.tenure), signed.signature, what=what)
            except ConfigurationError as error:
                problem = error
            else:
                return signed
        raise problem or ConfigurationError(f"{what} is signed by no known coordinator")


def generation_of(tenure: SignedTenure | None) -> int:
    """0 for the first machine, which has none."""
    return 0 if tenure is None else tenure.tenure.generation


def replaces(offered: SignedTenure | None, held: SignedTenure | None) -> bool:
    """Whether who holds `held` takes `offered` in its place. The same one replaces nothing; another one of the same
    number does not either: who came first stays."""
    return generation_of(offered) > generation_of(held)


def optional_tenure(fields: Fields) -> bytes:
    """The signed tenure in a message, not parsed yet; empty where it has none. Raises LinkError for one too long."""
    tenure = fields.blob("tenure") if "tenure" in fields else b""
    if len(tenure) > MAX_TENURE_BYTES:
        raise LinkError("the peer's tenure is too long")
    return tenure


def is_refused(offered: SignedTenure | None, held: SignedTenure | None) -> bool:
    """Whether who holds `held` takes part in nothing of the machine that offers under `offered`."""
    return offered != held and not replaces(offered, held)


def read_tenure(path: Path, *, federation: str, keys: Collection[bytes]) -> SignedTenure | None:
    """The tenure in a file; None where there is none. Raises ConfigurationError, StorageError."""
    if not path.exists():
        return None
    return SignedTenure.parse(read_file(path, limit=MAX_TENURE_BYTES), federation=federation, keys=keys)


def keep_tenure(path: Path, tenure: SignedTenure) -> None:
    """Durable when it returns. Raises StorageError."""
    write_file(path, tenure.to_bytes())
