"""The model that a new federation trains unless it says otherwise: the public base that comes with the package."""

from __future__ import annotations

from sordino_platform.architecture import ModelConfig, with_adapters
from sordino_platform.charter.model_terms import ModelTerms

# The default scale of adapters: at 1 the norms would take most of the clipped gradient (ADR 13).
ADAPTER_SCALE = 6.0
# What a new federation trains by default (docs/federation-benchmark.md): 114,816 parameters. Training the whole base,
# 3.4 million parameters, gained nothing at the same epsilon.
DEFAULT_ADAPTERS: dict[str, int | float] = {"adapter_rank": 4, "embedding_rank": 8}


def shipped_model(
    *, adapter_rank: int = 0, embedding_rank: int = 0, adapter_scale: float | None = None
) -> ModelTerms:
    """Terms for training the shipped base whole, or adapters of `adapter_rank` on top of it."""
    from sordino_platform import base  # imports torch: only the founding of a federation needs it

    card = base.card()
    if adapter_scale is None:
        adapter_scale = ADAPTER_SCALE if adapter_rank else 1.0
    return ModelTerms.of(
        with_adapters(
            ModelConfig(**card["config"]), adapter_rank, embedding_rank=embedding_rank, scale=adapter_scale
        ),
        base_sha256=bytes.fromhex(card["sha256"]),
        tokenizer_sha256=bytes.fromhex(card["tokenizer_sha256"]),
    )
