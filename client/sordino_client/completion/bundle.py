"""A serving bundle: the files of one released model, and the one door through which they are read.

    FOLDER/CURRENT               the name of a sub-folder, one line (or a symbolic link `current` to it)
    FOLDER/<name>/manifest.json  {"release": 7, "sha256": "<of model.safetensors, hex>"}, and of the shared memory
    FOLDER/<name>/config.json    the fields of ModelConfig
    FOLDER/<name>/tokenizer.json
    FOLDER/<name>/shared-memory.bin   the shared memory of the release, where it has one
    FOLDER/<name>/model.safetensors   effective weights (adapters folded in), float32 or float16

Everything is checked before it is used: sizes before anything is allocated, the digest before a tensor is read,
names, shapes and types against the configuration, values for being finite. Nothing here is executable: no
pickle, no torch.

The agent writes it: `sordino_platform.release.write_serving_bundle`.

    >>> bundle = load(current(folder))
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from sordino_platform import durable
from sordino_platform.architecture import ModelConfig, shapes, without_adapters
from sordino_platform.release.bundle import MEMORY
from sordino_privacy.counts import SharedMemory
from sordino_privacy.counts.reading import MAX_MEMORY_BYTES
from sordino_privacy.errors import ConfigurationError, StorageError

Array = npt.NDArray[np.float32]

MAX_JSON_BYTES = 64 << 10
MAX_RELEASE = 1 << 53
MEMORY_SHA256 = "shared_memory_sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A checked model: weights by name, float32, and where its tokenizer lies. `release` counts upwards.

    The weights are views of `pages`, a mapped file of our own that has no name any more: a network that packs
    them into a layout of its own hands the memory back with `give_back`, and a page that is needed after all
    comes from the file again. Mapping the release's file itself would crash the process if someone truncated it.
    """

    config: ModelConfig
    weights: Mapping[str, Array]
    pages: mmap.mmap
    tokenizer: Path
    release: int
    personal: bool = False
    memory: SharedMemory | None = None

    @property
    def name(self) -> str:
        """How the model is called towards editors, e.g. `sordino-7`."""
        name = f"sordino-{self.release}" if self.release else "sordino-base"
        return f"{name}-personal" if self.personal else name

    def give_back(self) -> None:
        """Drops the weights' pages from memory; they are read again where they are touched again."""
        self.pages.madvise(mmap.MADV_DONTNEED)


def current(folder: Path) -> Path | None:
    """The sub-folder that `folder` names as current, or None while nothing was released to it.

    Raises StorageError where the pointer names anything but a direct sub-folder.
    """
    pointer = folder / "CURRENT"
    try:
        if pointer.exists():
            name = durable.read_file(pointer, limit=256).decode().strip()
        else:
            name = (folder / "current").readlink().name
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            "the pointer to the current model cannot be read", hint=f"look at {folder}"
        ) from error
    if not name or name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise StorageError("the pointer to the current model names no sub-folder", hint=f"look at {pointer}")
    return folder / name


def load(folder: Path) -> Bundle:
    """Reads and checks one bundle. Raises StorageError (unreadable, damaged) or ConfigurationError (impossible)."""
    manifest = _json(folder / "manifest.json")
    known = {"release", "sha256"}
    if not isinstance(manifest, dict) or set(manifest) not in (known, known | {MEMORY_SHA256}):
        raise StorageError(
            "the model's manifest must hold release and sha256, and nothing else but the shared memory's",
            hint=str(folder),
        )
    release, expected = manifest["release"], manifest["sha256"]
    if type(release) is not int or not 0 <= release < MAX_RELEASE or not isinstance(expected, str):
        raise StorageError("the model's manifest is malformed", hint=f"look at {folder / 'manifest.json'}")
    config = parse_config(_json(folder / "config.json"))
    weights, pages = read_weights(folder / "model.safetensors", config, expected=expected)
    return Bundle(
        config=config,
        weights=weights,
        pages=pages,
        tokenizer=folder / "tokenizer.json",
        release=release,
        memory=read_memory(folder / MEMORY, manifest[MEMORY_SHA256]) if MEMORY_SHA256 in manifest else None,
    )


def read_memory(path: Path, expected: object) -> SharedMemory:
    """The shared memory in a file with that SHA-256 in hex. Raises StorageError."""
    memory = SharedMemory.decode(durable.read_file(path, limit=MAX_MEMORY_BYTES))
    if memory.digest().hex() != expected:
        raise StorageError("the shared memory does not match its digest", hint="fetch the release again")
    return memory


def shipped() -> Bundle:
    """The base model that comes with the installation, as release 0. Raises StorageError where it is missing.

    Read by its files: importing `sordino_platform.base` would import torch.
    """
    folder = Path(str(files("sordino_platform") / "base"))
    card = _json(folder / "card.json")
    try:
        config, expected = parse_config(card["config"]), str(card["sha256"])
    except (KeyError, TypeError) as error:
        raise StorageError("the base model's card is damaged", hint="install sordino again") from error
    weights, pages = read_weights(folder / "base.safetensors", config, expected=expected)
    return Bundle(config=config, weights=weights, pages=pages, tokenizer=folder / "tokenizer.json", release=0)


def parse_config(document: Any) -> ModelConfig:
    """A configuration of merged weights: no adapters are left. Raises ConfigurationError on anything unexpected."""
    if not isinstance(document, dict):
        raise ConfigurationError("the model's config.json is not an object")
    try:
        return without_adapters(ModelConfig(**document))
    except TypeError as error:
        raise ConfigurationError("the model's config.json has unknown or impossible fields") from error


def read_weights(
    path: Path, config: ModelConfig, *, expected: str | None = None
) -> tuple[dict[str, Array], mmap.mmap]:
    """The tensors of `path` as float32, and the mapped pages they lie in.

    `expected` is the file's SHA-256 in hex; None for files that came with the installation. Raises StorageError
    where anything does not fit the configuration.
    """
    layout = shapes(config)
    count = sum(math.prod(shape) for shape in layout.values())
    # The header names every tensor, with shape and offsets: far below 512 bytes each.
    limit = 4 * count + 512 * len(layout) + 4096
    misfit = StorageError("the model's weights do not fit its configuration", hint=str(path))
    weights: dict[str, Array] = {}
    try:
        if path.stat().st_size > limit:
            raise StorageError("the model's weights are larger than its configuration allows", hint=str(path))
        if expected is not None:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    raise StorageError(
                        "the model's weights do not match their digest", hint="fetch the release again"
                    )
        pages = _spool(path.parent, 4 * count)
        with safe_open(path, framework="numpy") as tensors:
            if set(tensors.keys()) != set(layout):
                raise misfit
            start = 0
            for name, shape in layout.items():
                part = tensors.get_slice(name)
                if tuple(part.get_shape()) != shape or part.get_dtype() not in {"F16", "F32"}:
                    raise misfit
                size = math.prod(shape)
                target: Array = np.frombuffer(pages, np.float32, size, 4 * start).reshape(shape)
                target[...] = tensors.get_tensor(name)
                if not np.isfinite(target).all():
                    raise StorageError("the model's weights hold a value that is not finite", hint=str(path))
                weights[name] = target
                start += size
    except (OSError, SafetensorError) as error:
        raise StorageError("the model's weights cannot be read", hint=f"look at {path}") from error
    return weights, pages


def _spool(folder: Path, size: int) -> mmap.mmap:
    """A mapped, nameless file of `size` bytes, beside the model (a disk) or where temporary files go."""
    # The model that came with the installation may lie in a read-only place.
    with tempfile.TemporaryFile(dir=folder if os.access(folder, os.W_OK) else None) as file:
        # Reserved, not sparse: writing to a page that a full disk cannot back would kill the process.
        os.posix_fallocate(file.fileno(), 0, size)
        return mmap.mmap(file.fileno(), size)


def _json(path: Path) -> Any:
    try:
        return json.loads(durable.read_file(path, limit=MAX_JSON_BYTES))
    except ValueError as error:
        raise StorageError(f"{path.name} of the model is not JSON", hint=f"look at {path}") from error
