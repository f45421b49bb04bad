"""The decoder as an ONNX graph, built from the architecture with onnx.helper: no exporter, same bytes every time.

Inputs: `tokens`, `positions` `(new)`, `bias` `(new, past + new)` (0 where a token may look, -inf elsewhere),
`wanted` `(m)`, and per layer `past_key.i`, `past_value.i` `(past, heads, head_size)`. Outputs: `logits`
`(m, vocabulary)` and per layer `key.i`, `value.i` `(new, heads, head_size)`.

The past goes in and only the new rows come out: the usual concatenated cache is copied whole for every token.
Scores against the past and the new rows are computed apart and joined before the softmax. `FusedMatMul` with
`transBatch` reads the `(time, heads, head_size)` layout in place, so the cache is never transposed either.
Weights are not in the graph: they are given to the session as external initializers, without a second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import rotary
from sordino_platform.architecture import ModelConfig, shapes

EPSILON = 1e-6
CONTRIB = "com.microsoft"


def initializers(config: ModelConfig, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Every float constant of the graph by name: the weights as they are, the rotary tables, ones."""
    cos, sin = rotary(config)
    ones = np.ones(config.width // config.heads, np.float32)
    return {**weights, "rotary.cos": cos, "rotary.sin": sin, "ones": ones}


class _Builder:
    """Collects nodes; each call names its outputs after itself."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []

    def __call__(
        self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        names = outputs or (f"{kind}.{len(self.nodes)}",)
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    def norm(self, x: str, weight: str) -> str:
        (out,) = self("SimplifiedLayerNormalization", [x, weight], axis=-1, epsilon=EPSILON, stash_type=1)
        return out

    def linear(self, x: str, weight: str) -> str:
        (out,) = self("Gemm", [x, weight], transB=1)
        return out


def build(config: ModelConfig) -> bytes:
    """The serialised graph; its float initializers are declared and must be supplied to the session."""
    heads, width = config.heads, config.width
    size = width // heads
    add = _Builder()
    constants: list[Any] = []

    def constant(name: str, values: Sequence[int]) -> str:
        constants.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    by_head = constant("shape.heads", [-1, heads, size])
    both = constant("shape.query_key", [-1, 2 * heads, size])
    sequence = constant("shape.sequence", [1, -1, 2 * width])
    flat = constant("shape.flat", [-1, width])
    zero = constant("axis.batch", [0])
    past = constant("shape.zero", [0])
    one = constant("shape.one", [1])
    last = constant("axis.last", [2])

    add("Gather", ["embed.weight", "tokens"], "embedded")
    add("Unsqueeze", ["positions", zero], "positions.batch")
    add("Shape", ["past_key.0"], "past.length", start=0, end=1)
    x = add.norm("embedded", "norm_in.weight")
    total = constant("shape.end", [np.iinfo(np.int64).max])
    for layer in range(config.layers):
        name = f"blocks.{layer}."
        fused = add.linear(add.norm(x, name + "norm_attention.weight"), name + "query_key_value.weight")
        query_key, value = add("Split", [fused, "split.value"], f"qk.{layer}", f"v.{layer}", axis=1)
        (stacked,) = add("Reshape", [query_key, both])
        (line,) = add("Reshape", [add.norm(stacked, "ones"), sequence])
        (turned,) = add(
            "RotaryEmbedding",
            [line, "positions.batch", "rotary.cos", "rotary.sin"],
            domain=CONTRIB,
            num_heads=2 * heads,
        )
        (stacked,) = add("Reshape", [turned, both])
        query, _ = add("Split", [stacked, "split.heads"], f"q.{layer}", f"key.{layer}", axis=1)
        add("Reshape", [value, by_head], f"value.{layer}")
        scores: list[str] = []
        for key in (f"past_key.{layer}", f"key.{layer}"):
            scores += add(
                "FusedMatMul",
                [query, key],
                domain=CONTRIB,
                transBatchA=1,
                transBatchB=1,
                transB=1,
                alpha=size**-0.5,
            )
        (joined,) = add("Concat", scores, axis=2)
        (biased,) = add("Add", [joined, "bias"])
        (attention,) = add("Softmax", [biased], axis=-1)
        (old,) = add("Slice", [attention, past, "past.length", last, one])
        (new,) = add("Slice", [attention, "past.length", total, last, one])
        mixed: list[str] = []
        for weights, source in ((old, f"past_value.{layer}"), (new, f"value.{layer}")):
            mixed += add("FusedMatMul", [weights, source], domain=CONTRIB, transBatchB=1)
        (summed,) = add("Add", mixed)
        (turned,) = add("Transpose", [summed], perm=[1, 0, 2])
        (joined,) = add("Reshape", [turned, flat])
        (x,) = add("Add", [x, add.linear(joined, name + "attention_out.weight")])
        inner = add.linear(add.norm(x, name + "norm_network.weight"), name + "expand.weight")
        (positive,) = add("Relu", [inner])
        (squared,) = add("Mul", [positive, positive])
        (x,) = add("Add", [x, add.linear(squared, name + "contract.weight")])
    (chosen,) = add("Gather", [x, "wanted"])
    add("Gemm", [add.norm(chosen, "norm_out.weight"), "embed.weight", "embed.bias"], "logits", transB=1)

    constant("split.value", [2 * width, width])
    constant("split.heads", [heads, heads])
    floats = {name: list(dims) for name, dims in shapes(config).items()}
    floats |= {
        "rotary.cos": [config.context, size // 2],
        "rotary.sin": [config.context, size // 2],
        "ones": [size],
    }
    info = helper.make_tensor_value_info
    rows: list[str | int | None] = ["new", heads, size]
    inputs = [
        info("tokens", TensorProto.INT64, ["new"]),
        info("positions", TensorProto.INT64, ["new"]),
        info("bias", TensorProto.FLOAT, ["new", "total"]),
        info("wanted", TensorProto.INT64, ["chosen"]),
    ]
    outputs = [info("logits", TensorProto.FLOAT, ["chosen", config.vocabulary])]
    for layer in range(config.layers):
        inputs += [
            info(f"past_{n}.{layer}", TensorProto.FLOAT, ["past", heads, size]) for n in ("key", "value")
        ]
        outputs += [info(f"{n}.{layer}", TensorProto.FLOAT, rows) for n in ("key", "value")]
    tensors = constants + [_external(name, dims) for name, dims in floats.items()]
    graph = helper.make_graph(add.nodes, "sordino-decoder/1", inputs, outputs, initializer=tensors)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)],
        ir_version=10,
        producer_name="sordino",
    )
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _external(name: str, dims: list[int]) -> Any:
    """A tensor whose data the session is given separately."""
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="supplied-by-the-session")
    return tensor
