"""The decoder as an ONNX graph, built from the architecture with onnx.helper: no exporter, same bytes every time.

Inputs: `tokens` `(new)`, `positions` `(1, new + 1)`, `bias` `(1, 1, new + 1, total)` (0 where a token may look, -inf
elsewhere), `last` `(1)` (total - 1), `total` (scalar: past, new and one), `wanted` `(m)`, and per layer `past_key.i`,
`past_value.i` `(1, heads, rows, head_size)`. Outputs: `logits` `(m, vocabulary)` and per layer `key.i`, `value.i`:
bound to the very buffers of the past, so that a read writes its own rows and moves no others.

`GroupQueryAttention` turns the queries and keys, appends to the cache and attends;
`SkipSimplifiedLayerNormalization` adds to the stream and norms it. One row of zeros is attended with the new ones and
dropped: the kernel multiplies a single row in another order than several, and a token must come out the same, to the
last bit, alone and within a block of drafts (rounding to integers would turn a last bit into a hundredth).

The matrices are float32, or integers (quantise.py); then each row of activations is rounded to unsigned bytes by its
own largest magnitude. Weights are not in the graph: they are given to the session as external initializers, without a
second copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_client.completion import quantise
from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import MAX_BRANCHES, Precision, decoder_shape_of, rotary
from sordino_client.completion.operators import CONTRIB, Builder, integer_constants
from sordino_platform.architecture import ModelConfig

EPSILON = 1e-6


def initializers(
    config: ModelConfig, weights: Mapping[str, Array], precision: Precision
) -> dict[str, npt.NDArray[Any]]:
    """Every constant of the graph by name that is not a shape: weights, rotary tables, ones."""
    # The attention kernel needs an entry for every row of the cache, and branches fill rows beyond the context.
    cos, sin = rotary(config, rows=config.context * MAX_BRANCHES)
    ones = np.ones(config.width // config.heads, np.float32)
    found: dict[str, npt.NDArray[Any]] = {"rotary.cos": cos, "rotary.sin": sin, "ones": ones}
    if precision != "float32":
        found |= integer_constants()
    for name, value in weights.items():
        if precision != "float32" and value.ndim == 2:
            integers, scales = quantise.by_rows(value, quantise.LEVELS[precision])
            found[name + ".integers"], found[name + ".scales"] = integers, scales
        if precision == "float32" or value.ndim == 1 or name == "embed.weight":
            found[name] = value
    return found


def build(config: ModelConfig, precision: Precision, constants: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The serialised graph. `constants` (`initializers`) are declared in it and must be supplied to the session."""
    heads, width = config.heads, config.width
    size = width // heads
    add = Builder(precision, epsilon=EPSILON, names=constants)
    by_head = add.constant("shape.by_head", [-1, 2 * heads, size])
    sequence = add.constant("shape.sequence", [1, -1, 2 * width])
    batch = add.constant("axis.batch", [0])
    add.constant("axis.row", [1])
    spare = add.constant("pad.row", [0, 0, 1, 0])
    begin, end = add.constant("slice.begin", [0]), add.constant("slice.end", [-1])
    add.constant("split.value", [2 * width, width])
    add.constant("split.key", [width, width])

    x = add.norm(add("Gather", ["embed.weight", "tokens"]), "norm_in.weight")
    change: str | None = None
    for layer in range(config.layers):
        name = f"blocks.{layer}."
        weight = name + "norm_attention.weight"
        if change is None:
            normed = add.norm(x, weight)
        else:
            normed, x = add.add_and_norm(x, change, weight)
        fused = add("Pad", [add.linear(normed, name + "query_key_value.weight"), spare])
        add("Split", [fused, "split.value"], f"query_key.{layer}", f"new_value.{layer}", axis=1)
        line = add("Reshape", [add.norm(add("Reshape", [f"query_key.{layer}", by_head]), "ones"), sequence])
        add("Split", [line, "split.key"], f"query.{layer}", f"new_key.{layer}", axis=2)
        value = add("Unsqueeze", [f"new_value.{layer}", batch])
        inputs = [f"query.{layer}", f"new_key.{layer}", value, f"past_key.{layer}", f"past_value.{layer}"]
        inputs += ["last", "total", "rotary.cos", "rotary.sin", "positions", "bias"]
        mixed = add(
            "GroupQueryAttention",
            inputs,
            *(f"mixed.{layer}", f"key.{layer}", f"value.{layer}"),
            domain=CONTRIB,
            num_heads=heads,
            kv_num_heads=heads,
            do_rotary=1,
        )
        mixed = add("Slice", [add("Squeeze", [mixed, batch]), begin, end, batch])
        if layer == config.layers - 1:
            # After the last keys and values only the rows whose logits are wanted matter: one of a prompt's many.
            mixed, x = add("Gather", [mixed, "wanted"]), add("Gather", [x, "wanted"])
            add.zeros.clear()  # there are other rows now
        change = add.linear(mixed, name + "attention_out.weight")
        normed, x = add.add_and_norm(x, change, name + "norm_network.weight")
        positive = add("Relu", [add.linear(normed, name + "expand.weight")])
        change = add.linear(add("Mul", [positive, positive]), name + "contract.weight", positive=True)
    assert change is not None, "a model has at least one layer"
    normed, _ = add.add_and_norm(x, change, "norm_out.weight")
    add.linear(normed, "embed.weight", "logits", bias="embed.bias")

    return add.serialised("sordino-decoder/6", decoder_shape_of(config), constants)
