"""The names and contents of a round's Flower messages, in one place for both sides.

A phase is one exchange: the coordinator sends a message of type `train.<phase>`, and each member answers it. The
protocol's own messages are opaque bytes (see sordino_privacy.secagg); this module only puts them into Flower records
and takes them out again, and refuses every other shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextvars import ContextVar
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from sordino_platform.link.messages import StreamedPart, views
from sordino_privacy.errors import LinkError

FIELDS, VECTORS = "sordino.fields/1", "sordino.vectors/1"
MAX_FIELDS = 64
MAX_VECTOR_BYTES = 1 << 32
STYPE = "sordino.raw"
DTYPES = {"uint8": 1, "uint16": 2, "uint32": 4, "float32": 4}
"""Bytes per element for each type that a vector may have. A type named by a peer is looked up here and used nowhere
else."""

Scalar = int | float | str | bytes | list[bytes]
Vector = npt.NDArray[np.float32] | npt.NDArray[np.uint16] | npt.NDArray[np.uint32] | npt.NDArray[np.uint8]

Element = TypeVar("Element", bound=np.generic)


class Phase(StrEnum):
    """The exchanges of a round, in order. Metrics and logs use these names as labels. MUSTER and SOUND happen in large
    cohorts only. They are repeated when many members fell silent in them."""

    TRAIN = "train"
    SHARE = "share_keys"
    UPLOAD = "masked_input"
    MUSTER = "muster"
    SOUND = "sound"
    SURVIVORS = "survivors"
    UNMASK = "unmask"
    RESULT = "result"

    @property
    def message_type(self) -> str:
        """The Flower message type: Flower routes `train.<action>` to the function of that action."""
        return f"train.{self.value}"


HELLO = "query.hello"
"""Offers a member the next round (sordino_platform.offer); asks who it is, which release it holds, and whether it is
ready."""


def node_id(name: str) -> int:
    """The Flower node id of a charter name on our own link: 63 bits of its hash, never Flower's reserved small ids."""
    return (
        int.from_bytes(hashlib.sha256(b"sordino-node/1\n" + name.encode()).digest()[:8], "big") >> 1 | 1 << 20
    )


STREAMED: ContextVar[dict[str, StreamedPart] | None] = ContextVar("sordino_streamed", default=None)
"""The place for vectors that are made while they are sent, when the transport of a reply supports that. Unset under
Flower's own runners, which take whole bytes only."""


def pack(
    fields: Mapping[str, Scalar], vectors: Mapping[str, Vector | StreamedPart] | None = None
) -> RecordDict:
    """Records for a message: scalars and byte strings, and any named vectors beside them.

    A vector of bytes that is a `StreamedPart` stays empty here and is put into `STREAMED`, if that is set; otherwise it
    is made now.
    """
    content = RecordDict({FIELDS: ConfigRecord(dict(fields))})
    if vectors:
        content[VECTORS] = ArrayRecord({name: _array(name, vector) for name, vector in vectors.items()})
    return content


def _array(name: str, vector: Vector | StreamedPart) -> Array:
    if not isinstance(vector, StreamedPart):
        return Array(vector.dtype.name, vector.shape, STYPE, vector.tobytes())
    streamed = STREAMED.get()
    if streamed is None:
        return Array("uint8", (vector.nbytes,), STYPE, b"".join(views([vector])))
    streamed[name] = vector
    return Array("uint8", (vector.nbytes,), STYPE, b"")


def vectors_of(content: RecordDict) -> ArrayRecord | None:
    """The vectors of a message's content, None where it has none.

    Not by `RecordDict.array_records`: that makes a view which refers to itself, and with it a vector of 88 MB would
    stay in memory until the next collection of cycles (flwr 1.42).
    """
    record = content.get(VECTORS)
    return record if isinstance(record, ArrayRecord) else None


class Fields:
    """The content of a message, taken out field by field, each with its type. All reading of Flower's records is done
    here."""

    def __init__(self, message: Message) -> None:
        """Raises LinkError when the peer answered with an error or with records of another shape."""
        if message.has_error():
            raise LinkError("the peer answered with an error instead of a reply")
        content = message.content
        fields, vectors = content.get(FIELDS), vectors_of(content)
        known = {FIELDS} if vectors is None else {FIELDS, VECTORS}
        if not isinstance(fields, ConfigRecord) or set(content) != known:
            raise LinkError("the peer sent records that this version does not know")
        self._fields = dict(fields)
        self._vectors = {} if vectors is None else dict(vectors)
        if len(self._fields) + len(self._vectors) > MAX_FIELDS:
            raise LinkError("the peer sent too many fields")

    def __contains__(self, name: str) -> bool:
        """Whether a field of that name has not been taken yet."""
        return name in self._fields or name in self._vectors

    def _take(self, name: str, kind: type) -> object:
        value = self._fields.get(name)
        if type(value) is not kind:
            raise LinkError(f"the peer's message lacks the field {name!r} of type {kind.__name__}")
        return self._fields.pop(name)

    def integer(self, name: str) -> int:
        """A whole number."""
        value = self._take(name, int)
        assert isinstance(value, int)
        return value

    def number(self, name: str) -> float:
        """A finite or infinite float; the caller bounds it."""
        value = self._take(name, float)
        assert isinstance(value, float)
        return value

    def text(self, name: str) -> str:
        """A string."""
        value = self._take(name, str)
        assert isinstance(value, str)
        return value

    def blob(self, name: str) -> bytes:
        """A byte string."""
        value = self._take(name, bytes)
        assert isinstance(value, bytes)
        return value

    def blobs(self, name: str) -> list[bytes]:
        """A list of byte strings. Flower does not keep the type of an empty list, so any empty list is accepted."""
        value = self._take(name, list)
        assert isinstance(value, list)
        if not all(type(item) is bytes for item in value):
            raise LinkError(f"the peer's message has another kind of list in {name!r}")
        return value

    def vector(self, name: str, dtype: type[Element]) -> npt.NDArray[Element]:
        """A one-dimensional vector of exactly `dtype`. The array views the message's own bytes: nothing is copied."""
        array = self._vectors.pop(name, None)
        kind = np.dtype(dtype)
        if array is None or array.dtype != kind.name or len(array.shape) != 1 or array.stype != STYPE:
            raise LinkError(f"the peer's message lacks the vector {name!r} of type {kind.name}")
        if array.shape[0] * kind.itemsize != len(array.data) or len(array.data) > MAX_VECTOR_BYTES:
            raise LinkError(f"the peer's vector {name!r} has another length than it says")
        return np.frombuffer(array.data, dtype=kind)

    def raw(self, name: str) -> memoryview:
        """A vector of bytes, as the message's own bytes."""
        return self.vector(name, np.uint8).data.cast("B")

    def drop(self) -> None:
        """Skips the rest, when the receiver has no use for it."""
        self._fields.clear()
        self._vectors.clear()

    def done(self) -> None:
        """Raises LinkError when a field is left over: unknown fields are refused."""
        left = sorted([*self._fields, *self._vectors])
        if left:
            raise LinkError(f"the peer's message has {len(left)} unknown field(s)")
