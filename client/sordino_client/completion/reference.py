"""The decoder in NumPy: the independent oracle of the tests, and what serves where ONNX Runtime cannot.

Line by line the network of `sordino_platform.model`, with a cache of keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import Indices, KeyValueCache, Mask, Precision, decoder_shape_of, rotary
from sordino_platform.architecture import ModelConfig

EPSILON = np.float32(1e-6)


class ReferenceNetwork:
    """`Network` in NumPy. `weights` by the names of `architecture.shapes`, float32."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Array]) -> None:
        self.config, self.shape = config, decoder_shape_of(config)
        self.precision: Precision = "float32"
        self.weights = weights
        self.cos, self.sin = rotary(config)

    def read(
        self, cache: KeyValueCache, tokens: Indices, positions: Indices, mask: Mask, wanted: Indices
    ) -> Array:
        """See `Network.read`."""
        config, weights = self.config, self.weights
        new, start = len(tokens), cache.length
        cos, sin = self.cos[positions][:, None, :], self.sin[positions][:, None, :]
        blocked = np.where(mask, np.float32(0), np.float32(-np.inf))
        x: Array = as_float32(_norm(weights["embed.weight"][tokens]) * weights["norm_in.weight"])
        for layer in range(config.layers):
            name = f"blocks.{layer}."
            normed = _norm(x) * weights[name + "norm_attention.weight"]
            split = (normed @ weights[name + "query_key_value.weight"].T).reshape(new, 3, config.heads, -1)
            query, key = (_rotate(_norm(split[:, part]), cos, sin).transpose(1, 0, 2) for part in (0, 1))
            cache.keys[layer, :, start : start + new] = key
            cache.values[layer, :, start : start + new] = split[:, 2].transpose(1, 0, 2)
            keys, values = cache.keys[layer, :, : start + new], cache.values[layer, :, : start + new]
            scores = query @ keys.transpose(0, 2, 1) / np.float32(query.shape[-1] ** 0.5)
            mixed = (softmax(scores + blocked) @ values).transpose(1, 0, 2)
            x = x + as_float32(mixed.reshape(new, -1) @ weights[name + "attention_out.weight"].T)
            inner = (_norm(x) * weights[name + "norm_network.weight"]) @ weights[name + "expand.weight"].T
            x = x + as_float32(np.square(np.maximum(inner, 0)) @ weights[name + "contract.weight"].T)
        cache.length = start + new
        out: Array = as_float32(_norm(x[wanted]) * weights["norm_out.weight"])
        logits: Array = out @ weights["embed.weight"].T + weights["embed.bias"]
        return logits


def _norm(x: npt.NDArray[np.floating]) -> Array:
    return as_float32(x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + EPSILON))


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)


def softmax(x: npt.NDArray[np.floating]) -> Array:
    """Over the last axis."""
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return as_float32(shifted / shifted.sum(axis=-1, keepdims=True))


def as_float32(x: npt.NDArray[np.floating]) -> Array:
    """`x` as float32, which it already is: NumPy's type stubs say a wider type than its arithmetic gives."""
    return x.astype(np.float32, copy=False)
