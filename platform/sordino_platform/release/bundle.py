"""The serving bundle, which the agent gives to the completion process after each release.

    FOLDER/CURRENT                           the name of the current sub-folder, one line; replaced by rename
    FOLDER/release-000007-1f0c.../           model.safetensors, config.json, tokenizer.json, manifest.json,
                                             shared-memory.bin where the release has one

The pointer is changed last, so a reader sees the old bundle or the whole new one. The two newest bundles stay, because
a reader may still be opening the older one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from sordino_platform.architecture import ModelConfig
from sordino_platform.bases import Base
from sordino_platform.durable import make_folder, read_file, write_file
from sordino_privacy.counts import SharedMemory

CURRENT = "CURRENT"
# A folder beside a serving folder, with bundles of the same form: the model from which every release starts.
BEGINS = "begins"
MEMORY = "shared-memory.bin"
KEPT = 2
MAX_TOKENIZER_BYTES = 8 << 20


def write_serving_bundle(
    folder: Path,
    config: ModelConfig,
    merged: Mapping[str, npt.NDArray[Any]],
    tokenizer: Path,
    *,
    release: int,
    memory: SharedMemory | None = None,
) -> Path:
    """Writes the bundle of a release into `folder`, makes it current, prunes old ones; returns its sub-folder.

    `merged` are effective weights, adapters folded in (`architecture.merged`); `memory` is the shared memory in force.
    Raises StorageError.
    """
    tensors = save({name: np.ascontiguousarray(value) for name, value in merged.items()})
    sha256 = hashlib.sha256(tensors).hexdigest()
    target = folder / f"release-{release:06d}-{sha256[:12]}"
    make_folder(target)
    facts: dict[str, object] = {"release": release, "sha256": sha256}
    if memory is not None:
        facts["shared_memory_sha256"] = memory.digest().hex()
        write_file(target / MEMORY, memory.encode(), secret=True)
    write_file(target / "model.safetensors", tensors, secret=True)
    write_file(target / "config.json", json.dumps(asdict(config), sort_keys=True).encode(), secret=True)
    write_file(target / "tokenizer.json", read_file(tokenizer, limit=MAX_TOKENIZER_BYTES), secret=True)
    write_file(target / "manifest.json", json.dumps(facts, sort_keys=True).encode(), secret=True)
    write_file(folder / CURRENT, f"{target.name}\n".encode(), secret=True)
    _prune(folder, target)
    return target


def write_base_bundle(
    folder: Path,
    base: Base,
    factors: Mapping[str, npt.NDArray[Any]],
    *,
    release: int,
) -> Path:
    """Writes the bundle of a release on a base (`bases.Base`), as `write_serving_bundle` does for our own models.

    `factors` are the adapters, `<module>.down` and `<module>.up`; none for the base alone. The base's own files stay
    where they are. Raises StorageError.
    """
    tensors = save({name: np.ascontiguousarray(value, np.float32) for name, value in factors.items()})
    sha256 = hashlib.sha256(tensors + base.digest.encode()).hexdigest()
    target = folder / f"release-{release:06d}-{sha256[:12]}"
    make_folder(target)
    said = {"name": base.name, "place": str(base.place), "digest": base.digest, "licence": base.licence}
    facts = {"release": release, "sha256": hashlib.sha256(tensors).hexdigest(), "base": said}
    if factors:
        write_file(target / "adapters.safetensors", tensors, secret=True)
    write_file(target / "manifest.json", json.dumps(facts, sort_keys=True).encode(), secret=True)
    write_file(folder / CURRENT, f"{target.name}\n".encode(), secret=True)
    _prune(folder, target)
    return target


def _prune(folder: Path, current: Path) -> None:
    others = sorted(path for path in folder.glob("release-*") if path.is_dir() and path != current)
    for path in others[: max(0, len(others) - (KEPT - 1))]:
        shutil.rmtree(path, ignore_errors=True)  # a reader may hold a file open: it goes when that is closed
