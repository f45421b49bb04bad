"""`sordino client adapt`: which code a member's personal adapter learns from, and where it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sordino_client.completion import personal
from sordino_client.settings import load_member_settings
from sordino_client.training.base_here import tokenizer_of
from sordino_client.training.preparation import last_prepared, prepare
from sordino_platform.identity import Identity


def adapt_member(
    folder: Path, *, rank: int, steps: int, on_step: Callable[[int, int], None]
) -> dict[str, Any]:
    """Trains on the member's repositories and stores the adapter for its completion engine. On a base, within the
    member's `training_memory_gb`, on its `training_device`.

    Raises ConfigurationError, DataError, StorageError.
    """
    # These import torch.
    from sordino_client.training.on_base import Means
    from sordino_client.training.personal import adapt

    settings, corpus = load_member_settings(folder), folder / "corpus"
    model = Identity.load(folder).charter.model
    config, tokenizer = model.config(), tokenizer_of(settings, model)
    window = min(settings.window, config.context)
    prepared = last_prepared(corpus, settings, tokenizer, window=window)
    if prepared is None:
        prepared = prepare(corpus, settings, tokenizer, window=window, end=config.end)
    done = adapt(
        folder / "completion",
        prepared.path(corpus),
        rank=rank,
        steps=steps,
        means=Means(memory=int(settings.training_memory_gb * (1 << 30)), device=settings.training_device),
        on_step=on_step,
    )
    return asdict(done)


def remove_adapter(folder: Path) -> bool:
    """Deletes the adapter; whether there was one."""
    path = personal.place(folder / "completion")
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed
