"""`sordino client adapt`: which code a member's personal adapter learns from, and where it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sordino_client.completion import personal
from sordino_client.settings import load_member_settings
from sordino_client.training.preparation import last_prepared, prepare
from sordino_platform.tokenizer import Tokenizer


def adapt_member(
    folder: Path, *, rank: int, steps: int, on_step: Callable[[int, int], None]
) -> dict[str, Any]:
    """Trains on the member's repositories and stores the adapter for its completion engine.

    Raises ConfigurationError, DataError, StorageError.
    """
    from sordino_client.training.personal import adapt  # imports torch

    settings, corpus, tokenizer = load_member_settings(folder), folder / "corpus", Tokenizer.shipped()
    prepared = last_prepared(corpus, settings, tokenizer, window=settings.window)
    if prepared is None:
        prepared = prepare(corpus, settings, tokenizer, window=settings.window)
    done = adapt(folder / "completion", prepared.path(corpus), rank=rank, steps=steps, on_step=on_step)
    return asdict(done)


def remove_adapter(folder: Path) -> bool:
    """Deletes the adapter; whether there was one."""
    path = personal.place(folder / "completion")
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed
