"""Keys and values of the tokens that were already read, and the interface of everything that reads them.

A cache is append-only rows in buffers `(layers, heads, rows, head_size)`, one contiguous block a layer: ONNX Runtime
appends to it in place, and a shared prefix is a length.
Which rows a new token may look at is a mask, not a position in the buffer: one mechanism serves reading a prompt,
the next token, a draft verified in a block, and alternatives that branch off one prompt (tree attention,
Miao et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sordino_client.completion.bundle import Array
from sordino_platform.architecture import ModelConfig

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
# In which the matrices are held and multiplied.
Precision = Literal["float32", "int8", "int7"]

# So many continuations of one prompt share a cache at most.
MAX_BRANCHES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """The sizes of a decoder that its caches and prompts depend on, whoever made it.

    `heads` of keys and values, each of `size` numbers; `context` in tokens; `vocabulary` in tokens. `spare`: rows
    besides those of tokens that a network may use as it likes, at least one.
    """

    layers: int
    heads: int
    size: int
    context: int
    vocabulary: int
    spare: int = 1

    @property
    def row_bytes(self) -> int:
        """The bytes of one token in a cache."""
        return 2 * 4 * self.layers * self.heads * self.size


def decoder_shape_of(config: ModelConfig) -> DecoderShape:
    """The shape of our own architecture."""
    return DecoderShape(
        layers=config.layers,
        heads=config.heads,
        size=config.width // config.heads,
        context=config.context,
        vocabulary=config.vocabulary,
    )


class KeyValueCache:
    """Append-only rows for one sequence (and its branches), and spare rows for the network's own use."""

    def __init__(self, shape: DecoderShape, rows: int) -> None:
        self._spare = shape.spare
        rows += self._spare
        self._shape = (shape.layers, shape.heads, rows, shape.size)
        self.keys: Array = np.empty(self._shape, np.float32)
        self.values: Array = np.empty(self._shape, np.float32)
        self.length = 0

    def resize(self, rows: int) -> None:
        """Makes room for `rows` rows, at least those that are held. Spare rows are not free: with huge pages even rows
        that were never written take memory."""
        layers, heads, now, size = self._shape
        rows += self._spare
        if rows == now:
            return
        assert rows > self.length
        self._shape = (layers, heads, rows, size)
        for name in ("keys", "values"):
            larger = np.empty(self._shape, np.float32)
            # One more than are read: a network may keep its first of the spare rows before them.
            kept = self.length + 1
            larger[:, :, :kept] = getattr(self, name)[:, :, :kept]
            setattr(self, name, larger)

    def truncate(self, length: int) -> None:
        """Forgets every row from `length` on."""
        self.length = min(self.length, length)


class Network(Protocol):
    """A decoder that reads tokens into a cache: all that the writing code knows of a model.

    Implementations: NumPy (reference.py), ONNX Runtime (runtime.py).
    """

    shape: DecoderShape
    precision: Precision

    def read(
        self, cache: KeyValueCache, tokens: Indices, positions: Indices, mask: Mask, wanted: Indices
    ) -> Array:
        """Appends one row per token to `cache` and returns the logits of the tokens with index `wanted`.

        Shapes: `tokens`, `positions` `(n,)`; `mask` `(n, cache.length + n)`, True where a token may look (every
        token sees itself); result `(len(wanted), vocabulary)`. Positions must be below the context.
        """
        ...


def rotary(config: ModelConfig, *, rows: int | None = None) -> tuple[Array, Array]:
    """Cosines and sines, each `(rows or context, head_size / 2)`, in float64 first as `model.rotary_table` does."""
    half = config.width // config.heads // 2
    frequency = config.rope_base ** (-np.arange(half, dtype=np.float64) / half)
    angle = np.outer(np.arange(rows or config.context, dtype=np.float64), frequency)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def causal(length: int, new: int) -> Mask:
    """The mask of `new` tokens that follow `length` rows in one line, `(new, length + new)`."""
    if new == 1:  # nearly always, and four times as fast
        return np.ones((1, length + 1), np.bool_)
    return np.tri(new, length + new, length, dtype=np.bool_)
