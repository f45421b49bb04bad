"""Writes source code from elsewhere as files for an agent to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sordino_platform.durable import make_folder
from sordino_privacy.errors import DataError


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes each text to its path under `folder`. Raises DataError for a path outside `folder`, and OSError."""
    for name, text in texts.items():
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise DataError(f"{name} leads out of its repository")
        path = folder / name
        make_folder(path.parent)
        # These are thousands of copies: waiting for the disk after each would take longer than reading them.
        path.write_text(text, encoding="utf-8", errors="replace")
