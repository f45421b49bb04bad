"""The model of a new federation, from a base's name and the options of its adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sordino_platform.bases.base import SHIPPED
from sordino_platform.charter.model_terms import HuggingFaceTerms, ModelTerms
from sordino_platform.charter.shipped import DEFAULT_ADAPTERS, shipped_model
from sordino_privacy.errors import UsageError

DEFAULT_RANK = 8  # the default for adapters on a base that does not ship


def model_of(base: str, adapters: Mapping[str, Any]) -> ModelTerms | HuggingFaceTerms:
    """The terms of a base of `sordino base list`, a folder or a .gguf file.

    `adapters` may have adapter_rank, and for the base that ships also embedding_rank and adapter_scale; what is left
    out has its default.

    Reads every byte of the base. Raises UsageError, ConfigurationError.
    """
    if base == SHIPPED:
        return shipped_model(**(adapters or DEFAULT_ADAPTERS))
    from sordino_platform.bases import find_base, open_folder
    from sordino_platform.huggingface_model import describe  # imports torch

    other = sorted(adapters.keys() - {"adapter_rank"})
    if other:
        raise UsageError(f"--{other[0].replace('_', '-')} is for the base that ships, not for {base}")
    found = find_base(base)
    open_folder(found)  # refuses a base that changed since it was added
    assert found.place is not None
    config = describe(found.place, rank=adapters.get("adapter_rank", DEFAULT_RANK))
    return HuggingFaceTerms.of(config, name=found.name)
