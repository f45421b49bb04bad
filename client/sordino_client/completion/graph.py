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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from sordino_client.completion import quantise
from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import MAX_BRANCHES, Precision, rotary
from sordino_platform.architecture import ModelConfig

EPSILON = 1e-6
CONTRIB = "com.microsoft"
# Activations as unsigned bytes: around this zero, or from zero up where none is negative.
MIDDLE, BYTE = 128, 255
SMALLEST = 1e-30  # a row of zeros needs some scale
KINDS = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
}


def initializers(
    config: ModelConfig, weights: Mapping[str, Array], precision: Precision
) -> dict[str, npt.NDArray[Any]]:
    """Every constant of the graph by name that is not a shape: weights, rotary tables, ones."""
    # The attention kernel wants a row for every row of the cache, which branches fill beyond the context.
    cos, sin = rotary(config, rows=config.context * MAX_BRANCHES)
    ones = np.ones(config.width // config.heads, np.float32)
    found: dict[str, npt.NDArray[Any]] = {"rotary.cos": cos, "rotary.sin": sin, "ones": ones}
    if precision != "float32":
        found |= {
            "one": np.array(1, np.float32),
            "smallest": np.array(SMALLEST, np.float32),
            "step.around": np.array(1 / (MIDDLE - 1), np.float32),
            "step.above": np.array(1 / BYTE, np.float32),
            "zero.around": np.array(MIDDLE, np.uint8),
            "zero.above": np.array(0, np.uint8),
        }
    for name, value in weights.items():
        if precision != "float32" and value.ndim == 2:
            integers, scales = quantise.by_rows(value, quantise.LEVELS[precision])
            found[name + ".integers"], found[name + ".scales"] = integers, scales
        if precision == "float32" or value.ndim == 1 or name == "embed.weight":
            found[name] = value
    return found


class _Builder:
    """Collects nodes; each call names its outputs after itself."""

    def __init__(self, precision: Precision) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.precision = precision
        self.zeros: dict[str, str] = {}

    def __call__(
        self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any
    ) -> str:
        names = outputs or (f"{kind}.{len(self.nodes)}",)
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0]

    def constant(self, name: str, values: Sequence[int]) -> str:
        self.constants.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def norm(self, x: str, weight: str) -> str:
        return self("SimplifiedLayerNormalization", [x, weight], axis=-1, epsilon=EPSILON, stash_type=1)

    def add_and_norm(self, x: str, change: str, weight: str) -> tuple[str, str]:
        """The stream with a change added, normed and as it is."""
        normed, total = f"normed.{len(self.nodes)}", f"stream.{len(self.nodes)}"
        outputs = (normed, "", "", total)
        self(
            "SkipSimplifiedLayerNormalization", [x, change, weight], *outputs, domain=CONTRIB, epsilon=EPSILON
        )
        return normed, total

    def linear(
        self, x: str, weight: str, *output: str, bias: str | None = None, positive: bool = False
    ) -> str:
        """`x` times a matrix; `positive` says that no activation is negative."""
        if self.precision == "float32":
            return self("Gemm", [x, weight, *([bias] if bias else [])], *output, transB=1)
        kind = "above" if positive else "around"
        magnitudes = x if positive else self("Abs", [x])
        largest = self("ReduceMax", [magnitudes, "axis.row"], keepdims=1)
        step = self("Max", [self("Mul", [largest, f"step.{kind}"]), "smallest"])
        steps = self("Squeeze", [step, "axis.row"])
        if kind not in self.zeros:
            self.zeros[kind] = self("Expand", [f"zero.{kind}", self("Shape", [steps])])
        bytes_ = self("QuantizeLinear", [x, steps, self.zeros[kind]], axis=0)
        inputs = [bytes_, weight + ".integers", "one", weight + ".scales", f"zero.{kind}"]
        product = self("MatMulIntegerToFloat", inputs, domain=CONTRIB)
        if bias is None:
            return self("Mul", [product, step], *output)
        return self("Add", [self("Mul", [product, step]), bias], *output)


def build(config: ModelConfig, precision: Precision, constants: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The serialised graph. `constants` (`initializers`) are declared in it and must be supplied to the session."""
    heads, width = config.heads, config.width
    size = width // heads
    add = _Builder(precision)
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
            # Behind the last keys and values only the wanted rows matter: one of a prompt's many.
            mixed, x = add("Gather", [mixed, "wanted"]), add("Gather", [x, "wanted"])
            add.zeros.clear()  # there are other rows now
        change = add.linear(mixed, name + "attention_out.weight")
        normed, x = add.add_and_norm(x, change, name + "norm_network.weight")
        positive = add("Relu", [add.linear(normed, name + "expand.weight")])
        change = add.linear(add("Mul", [positive, positive]), name + "contract.weight", positive=True)
    assert change is not None, "a model has at least one layer"
    normed, _ = add.add_and_norm(x, change, "norm_out.weight")
    add.linear(normed, "embed.weight", "logits", bias="embed.bias")

    info = helper.make_tensor_value_info
    inputs_of_graph = [
        info("tokens", TensorProto.INT64, ["new"]),
        info("positions", TensorProto.INT64, [1, "attending"]),
        info("bias", TensorProto.FLOAT, [1, 1, "attending", "total"]),
        info("last", TensorProto.INT32, [1]),
        info("total", TensorProto.INT32, []),
        info("wanted", TensorProto.INT64, ["chosen"]),
    ]
    outputs = [info("logits", TensorProto.FLOAT, ["chosen", config.vocabulary])]
    rows: list[str | int | None] = [1, heads, "rows", size]
    for layer in range(config.layers):
        for name in ("key", "value"):
            inputs_of_graph.append(info(f"past_{name}.{layer}", TensorProto.FLOAT, rows))
            outputs.append(info(f"{name}.{layer}", TensorProto.FLOAT, rows))
    declared = [_external(name, value) for name, value in constants.items()]
    graph = helper.make_graph(
        add.nodes, "sordino-decoder/5", inputs_of_graph, outputs, initializer=add.constants + declared
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)],
        ir_version=10,
        producer_name="sordino",
    )
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _external(name: str, value: npt.NDArray[Any]) -> Any:
    """A tensor whose data the session is given separately."""
    tensor = onnx.TensorProto(name=name, data_type=KINDS[value.dtype], dims=value.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="supplied-by-the-session")
    return tensor
