"""The one canonical encoding of every message, and the one hash over fields.

Every message is `b"sordino-secagg/2" | type (1 byte) | body`. Integers are big-endian and of fixed width, names are
`length (1 byte) | ASCII`, lists are `count (2 bytes) | entries`. Each value has exactly one encoding. `MessageReader`
reads it, and refuses a short, long or unknown message before it allocates anything of a length that the sender chose.

    >>> body = Writer(7).u16(3).name("alpha").done()
    >>> reader = MessageReader(body, 7)
    >>> reader.u16(), reader.name()
    (3, 'alpha')
    >>> reader.end()
"""

from __future__ import annotations

import hashlib
import itertools
import re
import struct
from functools import lru_cache
from typing import Self

from sordino_privacy.secagg.refusals import DowngradeError, MalformedError

SUITE = "sordino-secagg/2"
MAGIC = SUITE.encode()
HASH_BYTES = 32
KEY_BYTES = 32
SIGNATURE_BYTES = 64
HEAD_BYTES = len(MAGIC) + 1
NAME_BYTES = 64
"""The longest encoded name."""
MAX_MEMBERS = 10_000
MAX_MESSAGE_BYTES = (
    1 << 26
)  # 64 MiB: a delivery among 10,000 members; the slices of an upload are not part of a message
NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
PREFIXES = tuple(length.to_bytes(4, "big") for length in range(256))
"""Length prefixes of the most common fields: names, keys, hashes and signatures."""


@lru_cache(maxsize=64)
def label(purpose: str) -> bytes:
    """The versioned label of a derivation or signature: `sordino-secagg/2/<purpose>`."""
    return f"{SUITE}/{purpose}".encode()


def joined(*fields: bytes) -> bytes:
    """Length-prefixed (4 bytes each) concatenation: injective on sequences of byte strings."""
    try:
        return b"".join([PREFIXES[len(field)] + field for field in fields])
    except IndexError:  # one of them is longer than those
        return b"".join([len(field).to_bytes(4, "big") + field for field in fields])


def digest(purpose: str, *fields: bytes) -> bytes:
    """H of the protocol: SHA-256 over the label and the fields, each length-prefixed. 32 bytes."""
    return hashlib.sha256(_beginning(purpose) + joined(*fields)).digest()


@lru_cache(maxsize=64)
def _beginning(purpose: str) -> bytes:
    return joined(label(purpose))


def valid_name(name: str) -> bool:
    """Whether `name` is a charter name: 1 to 63 of [a-z0-9-] that begin and end with a letter or digit."""
    return NAME_PATTERN.fullmatch(name) is not None


class Writer:
    """Builds one message. The caller guarantees the values; the reader checks them on the other side."""

    def __init__(self, kind: int) -> None:
        self._parts: list[bytes] = [MAGIC, bytes([kind])]

    @classmethod
    def after(cls, head: bytes) -> Self:
        """Continues a message whose first part is already encoded."""
        writer = cls(0)
        writer._parts = [head]
        return writer

    def integer(self, value: int, size: int) -> Self:
        self._parts.append(value.to_bytes(size, "big"))
        return self

    def u8(self, value: int) -> Self:
        return self.integer(value, 1)

    def u16(self, value: int) -> Self:
        return self.integer(value, 2)

    def u32(self, value: int) -> Self:
        return self.integer(value, 4)

    def u64(self, value: int) -> Self:
        return self.integer(value, 8)

    def name(self, value: str) -> Self:
        return self.text(value)

    def text(self, value: str) -> Self:
        encoded = value.encode("ascii")
        self._parts += (bytes([len(encoded)]), encoded)
        return self

    def raw(self, value: bytes) -> Self:
        """Bytes of a length that the layout fixes."""
        self._parts.append(value)
        return self

    def blob(self, value: bytes) -> Self:
        return self.u32(len(value)).raw(value)

    def done(self) -> bytes:
        return b"".join(self._parts)


class MessageReader:
    """Parses one message, front to back. Raises MalformedError; DowngradeError for another protocol version."""

    def __init__(self, message: bytes, kind: int, *, limit: int = MAX_MESSAGE_BYTES) -> None:
        if len(message) > limit:
            raise MalformedError(f"a message of {len(message)} bytes is above the limit of {limit}")
        head = len(MAGIC) + 1
        if message[: len(MAGIC)] != MAGIC:
            if message[: len(b"sordino-secagg/")] == b"sordino-secagg/":
                raise DowngradeError(
                    f"the message is of another protocol version than {SUITE}",
                    hint="upgrade the older side; a transcript of an older suite is verified by the version of "
                    "sordino that wrote it",
                )
            raise MalformedError(f"the message is not of {SUITE}")
        if message[len(MAGIC) : head] != bytes([kind]):
            raise MalformedError(f"expected a message of type {kind}")
        self._message = message
        self._at = head

    def raw(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._message):
            raise MalformedError("the message is truncated")
        value = self._message[self._at : end]
        self._at = end
        return value

    def split(self, layout: struct.Struct) -> tuple[bytes, ...]:
        """Several fields of fixed sizes at once: `layout` is a struct format such as `32s64s`."""
        end = self._at + layout.size
        if end > len(self._message):
            raise MalformedError("the message is truncated")
        values = layout.unpack_from(self._message, self._at)
        self._at = end
        return values

    def named(self, layout: struct.Struct) -> tuple[str, tuple[bytes, ...]]:
        """A name and the fields of fixed sizes after it, in one call: a large round's lists have thousands of them."""
        message, start = self._message, self._at + 1
        stop = start + message[start - 1] if start <= len(message) else start
        end = stop + layout.size
        if end > len(message):
            raise MalformedError("the message is truncated")
        self._at = end
        return _name_of(message[start:stop]), layout.unpack_from(message, stop)

    def u8(self) -> int:
        return self.raw(1)[0]

    def u16(self) -> int:
        return self.integer(2)

    def u32(self) -> int:
        return self.integer(4)

    def u64(self) -> int:
        return self.integer(8)

    def integer(self, size: int) -> int:
        return int.from_bytes(self.raw(size), "big")

    def count(self, *, limit: int = MAX_MEMBERS) -> int:
        """The length of a list, checked before the list is read."""
        value = self.u16()
        if value > limit:
            raise MalformedError(f"a list of {value} entries is above the limit of {limit}")
        return value

    def text(self) -> str:
        return _text_of(self.raw(self.u8()))

    def name(self) -> str:
        return _name_of(self.raw(self.u8()))

    def names(self) -> tuple[str, ...]:
        """A set of names: strictly increasing, so that it has one encoding and no duplicates."""
        names = tuple(self.name() for _ in range(self.count()))
        require_increasing(names)
        return names

    def blob(self, *, limit: int) -> bytes:
        size = self.u32()
        if size > limit:
            raise MalformedError(f"a field of {size} bytes is above the limit of {limit}")
        return self.raw(size)

    def end(self) -> None:
        if self._at != len(self._message):
            raise MalformedError("bytes follow the end of the message")


@lru_cache(maxsize=MAX_MEMBERS)
def _name_of(raw: bytes) -> str:
    """The charter name in these bytes. Cached: a round of a thousand members names each of them in every message."""
    name = _text_of(raw)
    if not valid_name(name):
        raise MalformedError("a name is not a charter name")
    return name


def _text_of(raw: bytes) -> str:
    if not raw.isascii() or not (text := raw.decode("ascii")).isprintable():
        raise MalformedError("a text field is not printable ASCII")
    return text


def require_increasing(names: tuple[str, ...]) -> None:
    """Raises MalformedError unless the names are strictly increasing: one order, no duplicate."""
    if any(a >= b for a, b in itertools.pairwise(names)):
        raise MalformedError("a list of names is not sorted, or holds one twice")
