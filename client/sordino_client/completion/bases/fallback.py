"""A base whose decoder our graph does not compute is read by transformers: slow and large, but it answers.

Keys and values lie in the engine's own cache, so prefixes are reused, drafts verified and branches read as with the
others. Every layer must keep keys and values of one shape; a base that mixes kinds of layers does not, and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sordino_client.completion.bases.weights import Adapters
from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import DecoderShape, Indices, KeyValueCache, Mask, Precision
from sordino_platform.bases.base import SERVED_CONTEXT
from sordino_privacy.errors import ConfigurationError


class TransformersNetwork:
    """`Network` in transformers, float32, one thread, with adapters added to its weights."""

    precision: Precision = "float32"

    def __init__(self, folder: Path, *, end: int, adapters: Sequence[Adapters] = ()) -> None:
        """Raises ConfigurationError if transformers is not installed, or cannot run this base in this way."""
        from sordino_platform.huggingface_model import load_plain, merge

        self._model: Any = load_plain(folder)
        self._end = end
        import torch

        torch.set_num_threads(1)
        for one in adapters:
            merge(
                self._model,
                {
                    f"{module}.{part}": factor
                    for module, pair in one.items()
                    for part, factor in zip(("down", "up"), pair, strict=True)
                },
            )
        self.shape = self._shape()

    def read(
        self, cache: KeyValueCache, tokens: Indices, positions: Indices, mask: Mask, wanted: Indices
    ) -> Array:
        """See `Network.read`."""
        import torch
        from transformers.cache_utils import DynamicCache

        start, stop = cache.length, cache.length + len(tokens)
        past: Any = DynamicCache()
        for layer in range(self.shape.layers if start else 0):
            rows = (
                torch.from_numpy(kind[layer : layer + 1, :, :start]) for kind in (cache.keys, cache.values)
            )
            past.update(*rows, layer)
        seen = torch.zeros((1, 1, len(tokens), stop))
        seen.masked_fill_(torch.from_numpy(~mask), torch.finfo(torch.float32).min)
        with torch.inference_mode():
            logits = self._model(
                input_ids=torch.from_numpy(self._exchanged(tokens))[None],
                position_ids=torch.from_numpy(positions)[None],
                attention_mask=seen,
                cache=past,
                use_cache=True,
            ).logits[0, torch.from_numpy(wanted)]
        for layer in range(self.shape.layers):
            cache.keys[layer, :, start:stop] = past.layers[layer].keys[0, :, start:]
            cache.values[layer, :, start:stop] = past.layers[layer].values[0, :, start:]
        cache.length = stop
        found: Array = logits.float().numpy().copy()
        found[:, [0, self._end]] = found[:, [self._end, 0]]
        return found

    def _shape(self) -> DecoderShape:
        import torch
        from transformers.cache_utils import DynamicCache

        past: Any = DynamicCache()
        with torch.inference_mode():
            logits = self._model(input_ids=torch.tensor([[0]]), cache=past, use_cache=True).logits
        shapes = {tuple(layer.keys.shape) for layer in past.layers} | {
            tuple(layer.values.shape) for layer in past.layers
        }
        if len(shapes) != 1 or len(next(iter(shapes))) != 4:
            raise ConfigurationError("the base keeps what it read in a way that cannot be taken back")
        _, heads, _, size = next(iter(shapes))
        config = self._model.config
        windows = [
            getattr(config, name, None)
            for name in ("max_position_embeddings", "n_positions", "sliding_window")
        ]
        return DecoderShape(
            layers=len(past.layers),
            heads=heads,
            size=size,
            context=min([SERVED_CONTEXT, *(one for one in windows if isinstance(one, int) and one > 0)]),
            vocabulary=int(logits.shape[-1]),
        )

    def _exchanged(self, tokens: Indices) -> Indices:
        found: Indices = np.where(tokens == 0, self._end, np.where(tokens == self._end, 0, tokens))
        return found
