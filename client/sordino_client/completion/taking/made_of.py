"""The inputs that a choice of what is taken would have now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sordino_client.completion import bundle as bundles
from sordino_client.completion import personal
from sordino_client.completion.memory.store import Store
from sordino_client.completion.taking.record import TakenFrom
from sordino_platform.durable import read_file
from sordino_privacy.errors import StorageError


def taken_from(state: Path) -> TakenFrom:
    """The inputs that a choice would have now. Raises SordinoError if the served model cannot be read."""
    folder = bundles.current(state / "serving")
    manifest: Mapping[str, Any] = {}
    if folder is not None:
        try:
            manifest = json.loads(read_file(folder / "manifest.json", limit=bundles.MAX_JSON_BYTES))
            whole = type(manifest["release"]) is int and isinstance(manifest["sha256"], str)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise StorageError("the manifest of the model is damaged", hint=f"look at {folder}")
    released = bool(manifest) and manifest["release"] > 0
    return TakenFrom(
        release=str(manifest["sha256"]) if released else "",
        shared_memory=str(manifest.get(bundles.MEMORY_SHA256, "")),
        own=personal.stamps(state),
        memory_tokens=Store(state / "memory").status().tokens,
    )
