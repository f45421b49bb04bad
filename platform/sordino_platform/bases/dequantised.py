"""A GGUF file as a folder in Hugging Face's form, float32, made once and kept by the file's content.

    bases/dequantised/DIGEST/    config.json, tokenizer.json, model.safetensors, whole.json

Mode 0700, its files 0600. A folder appears whole or not at all; `whole.json` holds the digest of its files, so that a
changed or damaged folder is noticed and made again. The folder belongs to this user. A charter names the GGUF file,
never the folder, because another version of this module may write other bytes.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_platform.bases.gguf_families import Array, family_of
from sordino_platform.bases.gguf_file import TYPES, GgufFile, TensorRow
from sordino_platform.bases.gguf_tokenizer import tokenizer_json
from sordino_platform.bases.memory import FLOAT, in_words
from sordino_platform.durable import locked, make_folder, move_folder, read_file, write_file, write_parts
from sordino_platform.huggingface import folder_digest
from sordino_privacy.errors import ConfigurationError, StorageError

WHOLE = "whole.json"
VERSION = 1
_ALIGNMENT = 8  # of a safetensors header


def dequantised(file: GgufFile, digest: str, cache: Path) -> Path:
    """The folder for the GGUF file with this digest. It is made when it is missing or was changed.

    Raises ConfigurationError for a file that cannot be converted, StorageError when it cannot be written.
    """
    make_folder(cache)
    target = cache / digest
    with locked(cache):  # one process converts; the others wait and then find the folder
        if _whole(target):
            return target
        for left in (*cache.glob(f".{digest}.*"), target):
            shutil.rmtree(left, ignore_errors=True)
        fresh = cache / f".{digest}.{secrets.token_hex(4)}"
        make_folder(fresh)
        try:
            _write(file, fresh)
            described = {"version": VERSION, "files": folder_digest(fresh).hex()}
            write_file(fresh / WHOLE, json.dumps(described).encode(), secret=True)
            move_folder(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return target


def _whole(folder: Path) -> bool:
    """Whether the folder is complete and unchanged. Reads all of it."""
    try:
        said = json.loads(read_file(folder / WHOLE, limit=4096))
        return bool(said == {"version": VERSION, "files": folder_digest(folder).hex()})
    except (StorageError, ConfigurationError, ValueError):
        return False


def _write(file: GgufFile, folder: Path) -> None:
    family = family_of(file)
    config = family.config(file)
    names = family.names(file, config)
    # Checked first, so that a refusal comes before the long part.
    write_file(folder / "tokenizer.json", tokenizer_json(file).encode(), secret=True)
    write_file(folder / "config.json", json.dumps(config, indent=1, sort_keys=True).encode(), secret=True)
    rows = {here: file.tensors[there] for there, here in sorted(names.items(), key=lambda pair: pair[1])}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for here, row in rows.items():
        stop = start + FLOAT * prod(row.shape)
        shape = list(family.shape(row.name, row.shape))
        header[here] = {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}
        start = stop
    if shutil.disk_usage(folder).free < start:
        raise StorageError(
            f"{folder.parent} has no room for {in_words(start)}", hint="free some space and try again"
        )
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)

    def parts() -> Iterator[bytes | memoryview]:
        yield len(text).to_bytes(8, "little")
        yield text
        for row in rows.values():
            value = family.value(row.name, read_tensor(file, row), config)
            yield np.ascontiguousarray(value, dtype="<f4").data.cast("B")

    write_parts(folder / "model.safetensors", parts(), secret=True)


def read_tensor(file: GgufFile, row: TensorRow) -> Array:
    """A tensor's numbers in float32. Raises ConfigurationError when one is not finite, or gguf is not installed."""
    raw = np.frombuffer(file.data, dtype=np.uint8, count=row.length, offset=row.start)
    kind, _, _ = TYPES[row.type]
    match kind:
        case "F32":
            value = raw.view("<f4").astype(np.float32)
        case "F16":
            value = raw.view("<f2").astype(np.float32)
        case "BF16":
            value = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        case _:
            value = _blocks(raw.reshape(*row.shape[:-1], -1), row.type)
    if not np.isfinite(value).all():
        raise ConfigurationError(f"{file.path} holds a number that is not finite, in {row.name}")
    return value.reshape(row.shape)


def _blocks(raw: npt.NDArray[np.uint8], kind: int) -> Array:
    try:
        import gguf  # an optional extra
    except ImportError as error:
        raise ConfigurationError(
            "this installation cannot read quantised GGUF files", hint="pip install 'sordino[huggingface]'"
        ) from error
    with np.errstate(all="ignore"):  # a hostile scale overflows; the result is checked
        found: Array = gguf.dequantize(raw, gguf.GGMLQuantizationType(kind))
    return found
