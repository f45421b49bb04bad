"""Which machine is a federation's coordinator now: a number that only rises, signed by the coordinator's own key.

The first machine has no tenure, which counts as generation 0. A machine that takes over signs the next generation and
offers it with every round. A member keeps the highest tenure that it has seen. It takes part in nothing under a lower
one, or under another one with the same number. It shows the tenure that it holds, so a replaced machine learns that it
was replaced.

This says which of two honest machines goes on. It does not protect from a dishonest coordinator, because that one holds
the key.
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
    """One machine's time as the coordinator. `id` is random, so two machines with the same number can be told apart."""

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
        """The tenure after generation `after`, signed with the coordinator's identity key."""
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
    """Whether a party that holds `held` replaces it by `offered`. An equal tenure does not replace it. Another one with
    the same number does not either: the first one stays."""
    return generation_of(offered) > generation_of(held)


def optional_tenure(fields: Fields) -> bytes:
    """The signed tenure in a message, not yet parsed; empty when there is none. Raises LinkError when it is too
    long."""
    tenure = fields.blob("tenure") if "tenure" in fields else b""
    if len(tenure) > MAX_TENURE_BYTES:
        raise LinkError("the peer's tenure is too long")
    return tenure


def is_refused(offered: SignedTenure | None, held: SignedTenure | None) -> bool:
    """Whether a party that holds `held` must refuse everything from the machine that offers under `offered`."""
    return offered != held and not replaces(offered, held)


def read_tenure(path: Path, *, federation: str, keys: Collection[bytes]) -> SignedTenure | None:
    """The tenure in a file; None when there is no file. Raises ConfigurationError, StorageError."""
    if not path.exists():
        return None
    return SignedTenure.parse(read_file(path, limit=MAX_TENURE_BYTES), federation=federation, keys=keys)


def keep_tenure(path: Path, tenure: SignedTenure) -> None:
    """Writes the tenure to a file. It is durable when this returns. Raises StorageError."""
    write_file(path, tenure.to_bytes())
