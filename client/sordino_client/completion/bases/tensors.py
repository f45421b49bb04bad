"""The tensors of a base's folder, one at a time, as float32. The files are mapped, so that they take no memory of their
own.

The format is safetensors': eight bytes of length, a JSON header, the values. It is read here and not by the library
because the weights of nearly every base are bfloat16, which the library gives to torch only, and no process that serves
imports torch.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from sordino_client.completion.bundle import Array
from sordino_platform.durable import map_file
from sordino_privacy.errors import ConfigurationError

MAX_HEADER_BYTES = 64 << 20
MAX_FILE_BYTES = 1 << 40
WIDTHS: Final = {"F32": 4, "F16": 2, "BF16": 2}


class Tensors:
    """Every tensor of every `.safetensors` file in a folder, by name."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigurationError for files that are not what their headers say."""
        self._folder = folder
        self._rows: dict[str, tuple[memoryview, str, tuple[int, ...]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            self._add(path)
        if not self._rows:
            raise ConfigurationError(f"{folder} has no weights in the safetensors format")

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises ConfigurationError for a tensor that is not there."""
        return self._row(name)[2]

    def read(self, name: str) -> Array:
        """A copy as float32, in the shape that its file names. Raises ConfigurationError if it is missing or holds a
        value that is not finite."""
        data, kind, shape = self._row(name)
        if kind not in WIDTHS:
            raise ConfigurationError(f"{self._folder} has a {name} of a type that is no weight's")
        if kind == "BF16":
            value = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            value = np.frombuffer(data, "<f4" if kind == "F32" else "<f2").astype(np.float32)
        if not np.isfinite(value).all():
            raise ConfigurationError(f"{self._folder} has a {name} with a value that is not finite")
        return value.reshape(shape)

    def _row(self, name: str) -> tuple[memoryview, str, tuple[int, ...]]:
        if name not in self._rows:
            raise ConfigurationError(f"{self._folder} has no {name}", hint="fetch the base again")
        return self._rows[name]

    def _add(self, path: Path) -> None:
        data = map_file(path, limit=MAX_FILE_BYTES)
        try:
            length = int.from_bytes(data[:8], "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
                raise ValueError("header")
            header = json.loads(bytes(data[8 : 8 + length]))
            values = data[8 + length :]
            for name, row in header.items():
                if name != "__metadata__":
                    self._rows[name] = _checked(row, values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ConfigurationError(
                f"{path} is not a whole safetensors file", hint="fetch it again"
            ) from error


def _checked(row: Any, values: memoryview) -> tuple[memoryview, str, tuple[int, ...]]:
    kind, shape, (start, stop) = row["dtype"], tuple(row["shape"]), row["data_offsets"]
    whole = all(type(size) is int and 0 <= size < 1 << 31 for size in (*shape,))
    if kind not in WIDTHS:
        return values[:0], kind, shape  # a buffer that is not used
    if not whole or not 0 <= start <= stop <= len(values) or stop - start != WIDTHS[kind] * math.prod(shape):
        raise ValueError("offsets")
    return values[start:stop], kind, shape
