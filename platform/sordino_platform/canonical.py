"""Signed documents: one byte form, one hash, one signature, for charters, enrolments and release manifests.

A document is a frozen pydantic model. Its canonical bytes are JSON with sorted keys, one space of indentation, ASCII
only, finite numbers in the shortest form that reads back, and one newline at the end. So what a person reads in an
editor is exactly what was signed. Reading is strict: bytes are parsed, encoded again and compared, so one document has
exactly one byte form (no second spelling of a number, no duplicate or unknown key, no missing default).

Hashes are taken over *bytes as received*, after that check, with a versioned label and length prefixes:

    hash      = SHA-256( len64(label) label len64(bytes) bytes )
    signature = Ed25519( label "/signature" 0x00 hash )

    >>> data = encode(charter)
    >>> assert decode(Charter, data, limit=4 << 20, what="the charter") == charter
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticSerializationError

from sordino_privacy.errors import ConfigurationError
from sordino_privacy.signing import Signer

DIGEST_SIZE = 32
KEY_SIZE = 32
SIGNATURE_SIZE = 64
NEWER = "a newer version of sordino may have made it: update this one"


class Document(BaseModel):
    """The base class of every signed document: frozen, strict, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return encode(self)


D = TypeVar("D", bound=Document)


def _hexadecimal(size: int) -> Any:
    def parse(value: object) -> bytes:
        if isinstance(value, str):
            if len(value) != 2 * size:
                raise ValueError(f"must be {size} bytes in hexadecimal")
            value = bytes.fromhex(value)
        if not isinstance(value, bytes) or len(value) != size:
            raise ValueError(f"must be {size} bytes")
        return value

    return Annotated[
        bytes,
        PlainValidator(parse),
        PlainSerializer(bytes.hex, return_type=str, when_used="json"),
    ]


def _seconds(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# `bytes` in Python, lowercase hexadecimal on disk.
Digest = _hexadecimal(DIGEST_SIZE)
Key = _hexadecimal(KEY_SIZE)
Signature = _hexadecimal(SIGNATURE_SIZE)
Moment = Annotated[AwareDatetime, PlainSerializer(_seconds, return_type=str, when_used="json")]
# `[a-z0-9-]`, at most 63: also a DNS label, a file name and a metric label, so nothing ever needs escaping.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


def moment(value: datetime) -> datetime:
    """`value` in UTC and whole seconds, as documents carry it."""
    return value.astimezone(UTC).replace(microsecond=0)


def encode(document: Document) -> bytes:
    """The canonical bytes."""
    value = document.model_dump(mode="json")
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode(
        "ascii"
    )


def decode(kind: type[D], data: bytes, *, limit: int, what: str) -> D:
    """The document whose canonical bytes are `data`.

    Raises ConfigurationError, with one line that begins with `what`, for anything else: too long, not JSON, an
    unknown or missing field, a value out of its bounds, or any byte that `encode` would have written differently.
    """
    if len(data) > limit:
        raise ConfigurationError(f"{what} is larger than the {limit} bytes it may have")
    try:
        document = kind.model_validate_json(data)
    except ValidationError as error:
        raise ConfigurationError(
            f"{what} cannot be used: {first_problem(error)}",
            hint=NEWER if any(map(_of_a_newer_version, error.errors())) else "",
        ) from None
    try:
        again = encode(document)
    except PydanticSerializationError:
        again = b""  # a time that is out of range in UTC
    if again != data:
        raise ConfigurationError(
            f"{what} is not in canonical form",
            hint="it was edited or re-formatted after it was made; get it again from its author",
        )
    return document


def _of_a_newer_version(problem: ErrorDetails) -> bool:
    """Whether pydantic's finding suggests a document of a later version: an unknown field, or another `version`."""
    return problem["type"] == "extra_forbidden" or (
        problem["type"] == "literal_error" and problem["loc"] == ("version",)
    )


def first_problem(error: ValidationError) -> str:
    """Pydantic's first finding in one line: the field and the reason, never the value."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    text = problem["msg"].removeprefix("Value error, ").splitlines()[0][:400]
    return f"{place}: {text}" if place else text


def document_digest(label: str, data: bytes | memoryview) -> bytes:
    """SHA-256 under a versioned label, both length-prefixed (8 bytes, big-endian)."""
    hasher = hashlib.sha256()
    for part in (label.encode("ascii"), memoryview(data).cast("B")):
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()


def sign(key: Signer, label: str, data: bytes) -> bytes:
    """An Ed25519 signature over the labelled hash of `data`."""
    return key.sign(_message(label, data))


def require_signature(public_key: bytes, label: str, data: bytes, signature: bytes, *, what: str) -> None:
    """Raises ConfigurationError unless `signature` is a valid signature by `public_key` over `data` under this
    label."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _message(label, data))
    except (InvalidSignature, ValueError):
        raise ConfigurationError(
            f"the signature of {what} is wrong",
            hint="it was altered, or signed by another key; do not use it, and tell whoever sent it",
        ) from None


def _message(label: str, data: bytes) -> bytes:
    return label.encode("ascii") + b"/signature\x00" + document_digest(label, data)
