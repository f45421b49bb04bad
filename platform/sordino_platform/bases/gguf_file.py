"""Reads a GGUF file (ggml's format, versions 2 and 3). Its bytes are not trusted.

Layout, all little-endian: the magic, a version, the number of tensors, the number of settings; the settings (a name, a
type, a value); one row per tensor (name, sizes, type, offset); filling up to the alignment; the tensors' bytes. Source:
ggml's own description of GGUF.

Every count is compared with what the file can hold before anything is allocated for it, every tensor must lie within
the file without overlapping another, and every type must be in the list below. No weights are read here.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from sordino_platform.durable import map_file, sha256_of_file
from sordino_privacy.errors import ConfigurationError, StorageError

MAGIC = b"GGUF"
MAX_FILE_BYTES = 1 << 40
MAX_SETTINGS, MAX_TENSORS = 1 << 12, 1 << 15
MAX_TEXT = 1 << 20
MAX_ITEMS = 1 << 21  # most entries of an array: words of a vocabulary, or its merges
_LABEL = b"sordino-gguf-base/1\n"
_STRING, _ARRAY = 8, 9
_NUMBERS: Final[Mapping[int, np.dtype[Any]]] = {
    0: np.dtype("<u1"), 1: np.dtype("<i1"), 2: np.dtype("<u2"), 3: np.dtype("<i2"), 4: np.dtype("<u4"),
    5: np.dtype("<i4"), 6: np.dtype("<f4"), 7: np.dtype("?"), 10: np.dtype("<u8"), 11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}  # fmt: skip
# ggml's number of a tensor type: its name, values per block, bytes per block.
TYPES: Final[Mapping[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRow:
    """Where a tensor lies. `shape` has the outermost size first, as in numpy; `type` is a key of TYPES."""

    name: str
    shape: tuple[int, ...]
    type: int
    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """The header of a file. `settings` hold numbers, texts, lists of texts and numpy arrays."""

    path: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, TensorRow]
    data: memoryview = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Raises ConfigurationError for a file that is not a GGUF file, or whose header is impossible."""
        try:
            data = map_file(path, limit=MAX_FILE_BYTES)
        except StorageError as error:
            raise ConfigurationError(f"{path} cannot be read as a GGUF file: {error.message}") from error
        reader = _Reader(data, path)
        if reader.take(4) != MAGIC:
            raise reader.refusal("it does not begin as one")
        version = reader.number(4)
        if version not in (2, 3):
            raise reader.refusal(f"version {version} is unknown")
        tensors, settings = reader.number(8), reader.number(8)
        if tensors > MAX_TENSORS or settings > MAX_SETTINGS:
            raise reader.refusal("it announces more tensors or settings than any model has")
        found: dict[str, Any] = {}
        for _ in range(settings):
            name = reader.text()
            if name in found:
                raise reader.refusal("a setting occurs twice")
            found[name] = reader.value(reader.number(4))
        rows = [reader.row() for _ in range(tensors)]
        return cls(path=path, settings=found, tensors=_placed(reader, rows, found), data=data)

    @property
    def architecture(self) -> str:
        """The architecture that the file names. Raises ConfigurationError when it names none."""
        return str(self.setting("general.architecture", str))

    def setting(self, name: str, kind: type[Any], default: Any = None) -> Any:
        """A setting of that type (`int`, `float`, `str`, `bool`, `list`, `np.ndarray`), or `default`.

        Raises ConfigurationError when it has another type, or is missing and there is no default.
        """
        value = self.settings.get(name, default)
        if value is None:
            raise ConfigurationError(f"{self.path} has no {name}")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigurationError(f"{self.path} has a {name} of another type than it must have")
        return value

    def digest(self) -> str:
        """The digest that a charter names: SHA-256 of a label and the file's own SHA-256, in hexadecimal."""
        return digest_of(sha256_of_file(self.path))


def digest_of(sha256: bytes) -> str:
    """The digest of the base in the GGUF file with this SHA-256."""
    return hashlib.sha256(_LABEL + sha256).hexdigest()


class _Reader:
    """A position in the bytes that never moves past their end."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self._data, self._path, self.at = data, path, 0

    def refusal(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._path} is not a GGUF file that can be read: {why}",
            hint="fetch it again, and compare its SHA-256 with the publisher's",
        )

    @property
    def left(self) -> int:
        return len(self._data) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise self.refusal("it is cut short")
        self.at += count
        return bytes(self._data[self.at - count : self.at])

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self, most: int = MAX_TEXT) -> str:
        length = self.number(8)
        if length > most:
            raise self.refusal("a text is longer than any can be")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise self.refusal("a text is not UTF-8") from error

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        return self._numbers(kind, 1)[0].item()

    def _array(self) -> Any:
        kind, count = self.number(4), self.number(8)
        if count > MAX_ITEMS:
            raise self.refusal("a list is longer than any can be")
        if kind == _STRING:
            if 8 * count > self.left:  # each text has its length before it
                raise self.refusal("it is cut short")
            return [self.text() for _ in range(count)]
        return self._numbers(kind, count)

    def _numbers(self, kind: int, count: int) -> Any:
        dtype = _NUMBERS.get(kind)
        if dtype is None:
            raise self.refusal("a setting has an unknown type")
        return np.frombuffer(self.take(count * dtype.itemsize), dtype=dtype)

    def row(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self.text(256), self.number(4)
        if not 1 <= dimensions <= 4:
            raise self.refusal("a tensor has an impossible number of dimensions")
        sizes = struct.unpack(f"<{dimensions}Q", self.take(8 * dimensions))
        return name, tuple(reversed(sizes)), self.number(4), self.number(8)


def _placed(
    reader: _Reader, rows: list[tuple[str, tuple[int, ...], int, int]], settings: Mapping[str, Any]
) -> dict[str, TensorRow]:
    """The tensors, each within the file and without overlaps."""
    alignment = settings.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise reader.refusal("its alignment is impossible")
    start = -(-reader.at // alignment) * alignment
    room = reader.at + reader.left - start
    found: dict[str, TensorRow] = {}
    for name, shape, kind, offset in rows:
        if kind not in TYPES:
            raise reader.refusal(f"the tensor type {kind} is not one that can be read")
        _, values, size = TYPES[kind]
        count = prod(shape)  # Python's integers have no limit, so a product cannot overflow
        if not count or shape[-1] % values or count // values * size > room:
            raise reader.refusal("a tensor does not fit into it")
        length = count // values * size
        if offset % alignment or offset + length > room or name in found:
            raise reader.refusal("a tensor lies where none can lie")
        found[name] = TensorRow(name=name, shape=shape, type=kind, start=start + offset, length=length)
    ordered = sorted(found.values(), key=lambda row: row.start)
    if any(a.start + a.length > b.start for a, b in pairwise(ordered)):
        raise reader.refusal("two tensors lie over each other")
    return found
