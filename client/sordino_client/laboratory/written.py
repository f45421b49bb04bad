"""Source code that was read from elsewhere, as the files that an agent will read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sordino_platform.durable import make_folder
from sordino_privacy.errors import DataError


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes each text under its path below `folder`. Raises DataError for a path that leads out, OSError."""
    for name, text in texts.items():
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise DataError(f"{name} leads out of its repository")
        path = folder / name
        make_folder(path.parent)
        # Copies, and thousands of them: a wait for the disk after each would take longer than what reads them.
        path.write_text(text, encoding="utf-8", errors="replace")
