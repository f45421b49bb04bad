"""`sordino client adapt`: which code a member's personal adapter learns from, and where it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sordino_client.completion import personal
from sordino_client.completion.taking.made_of import taken_from
from sordino_client.settings import load_member_settings
from sordino_client.training.base_here import tokenizer_of
from sordino_client.training.preparation import last_prepared, prepare
from sordino_platform.identity import Identity


def adapt_member(
    folder: Path, *, rank: int, steps: int, on_step: Callable[[int, int], None]
) -> dict[str, Any]:
    """Trains on the member's repositories and stores the adapter for its completion engine. If there is a release, a
    second adapter is trained for the model that releases begin with (`alone` in the reports), so that the member can
    choose how much of the release it takes. On a base, within the member's `training_memory_gb`, on its
    `training_device`.

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
    state, units = folder / "completion", prepared.path(corpus)
    means = Means(memory=int(settings.training_memory_gb * (1 << 30)), device=settings.training_device)
    done = adapt(state, units, rank=rank, steps=steps, means=means, on_step=on_step)
    if not taken_from(state).release:
        return asdict(done) | {"alone": None}
    beside = adapt(state, units, rank=rank, steps=steps, alone=True, means=means, on_step=on_step)
    return asdict(done) | {"alone": asdict(beside)}


def remove_adapter(folder: Path) -> bool:
    """Deletes the adapters. Returns whether there was one."""
    paths = [personal.place(folder / "completion", alone=alone) for alone in (False, True)]
    existed = any(path.exists() for path in paths)
    for path in paths:
        path.unlink(missing_ok=True)
    return existed
