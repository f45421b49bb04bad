"""A base's decoder as an ONNX graph with the inputs and outputs of our own (completion/graph.py), and its constants.

The same integers by rows and the same spare row in attention: a token comes out alike alone and within a block, for
this decoder as for ours (ADR 7, ADR 36).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_client.completion import quantise
from sordino_client.completion.bases.form import Activation, Form
from sordino_client.completion.bases.weights import Weights
from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import Precision
from sordino_client.completion.operators import CONTRIB, Builder, integer_constants, two_byte_constants

Constant = npt.NDArray[Any]
EMBED, HEAD = "embed.weight", "head.weight"


def constants(weights: Weights, precision: Precision) -> Iterator[tuple[str, Constant]]:
    """Every constant that the session is given, one after the other: no two layers need to be in memory at once."""
    form = weights.form
    if (rotary := form.rotary()) is not None:
        yield from zip(("rotary.cos", "rotary.sin"), rotary, strict=True)
    yield "embedding_scale", np.array(form.embedding_scale, np.float32)
    yield from activation_constants(form.activation).items()
    if precision != "float32":
        yield from (integer_constants() | two_byte_constants()).items()
    for name, value in weights.outer().items():
        if name == EMBED and precision != "float32":
            integers, scales = quantise.rows(value, quantise.LEVELS[precision])
            yield "rows.integers", integers
            yield "rows.scales", scales
            if form.tied and not weights.smoothing:
                yield HEAD + ".integers", np.ascontiguousarray(integers.T)
                yield HEAD + ".scales", scales
        else:
            yield from _constant(name, value, precision)
    for number in range(form.shape.layers):
        for name, value in weights.layer(number).items():
            yield from _constant(f"layers.{number}.{name}", value, precision)


def _constant(name: str, value: Array, precision: Precision) -> Iterator[tuple[str, Constant]]:
    if precision == "float32" or value.ndim == 1 or name == "position.weight":
        yield name, value
        return
    integers, scales = quantise.by_rows(value, quantise.LEVELS[precision])
    yield name + ".integers", integers
    yield name + ".scales", scales


def activation_constants(kind: Activation) -> dict[str, Constant]:
    """The numbers of the approximation of gelu; none for the others, which are operators."""
    if kind != "gelu_tanh":
        return {}
    numbers = {"half": 0.5, "unit": 1.0, "cubic": 0.044715, "slope": (2 / np.pi) ** 0.5}
    return {f"gelu.{name}": np.array(value, np.float32) for name, value in numbers.items()}


class _Decoder(Builder):
    def __init__(self, form: Form, precision: Precision, names: dict[str, Constant]) -> None:
        super().__init__(precision, epsilon=form.epsilon)
        self.form, self.names = form, names

    def normed(self, x: str, name: str) -> str:
        if self.form.norm == "rms":
            return self.norm(x, name + ".weight")
        inputs = [x, name + ".weight", name + ".bias"]
        return self("LayerNormalization", inputs, axis=-1, epsilon=self.epsilon)

    def add_normed(self, x: str, change: str, name: str) -> tuple[str, str]:
        if self.form.norm == "rms":
            return self.add_and_norm(x, change, name + ".weight")
        total = self("Add", [x, change])
        return self.normed(total, name), total

    def matrix(self, x: str, name: str, *output: str) -> str:
        bias = name + ".bias" if name + ".bias" in self.names else None
        return self.linear(x, name + ".weight", *output, bias=bias)

    def activated(self, x: str) -> str:
        if self.form.activation == "silu":
            return self("Mul", [x, self("Sigmoid", [x])])
        if self.form.activation == "gelu":
            return self("Gelu", [x])
        inner = self("Mul", [self("Mul", [x, self("Mul", [x, x])]), "gelu.cubic"])
        tanh = self("Tanh", [self("Mul", [self("Add", [x, inner]), "gelu.slope"])])
        return self("Mul", [self("Mul", [x, "gelu.half"]), self("Add", [tanh, "gelu.unit"])])

    def embedded(self) -> str:
        if self.precision == "float32":
            rows = self("Gather", [EMBED, "tokens"])
        else:
            integers = self("Cast", [self("Gather", ["rows.integers", "tokens"])], to=1)
            scales = self("Unsqueeze", [self("Gather", ["rows.scales", "tokens"]), "axis.row"])
            rows = self("Mul", [integers, scales])
        if self.form.embedding_scale != 1:
            rows = self("Mul", [rows, "embedding_scale"])
        if "position.weight" in self.names:
            places = self("Slice", [self("Squeeze", ["positions", "axis.batch"]), "slice.begin", "slice.end"])
            rows = self("Add", [rows, self("Gather", ["position.weight", places])])
        return rows


def build(form: Form, precision: Precision, names: dict[str, Constant]) -> tuple[bytes, dict[str, Constant]]:
    """The serialised graph, and those of the constants (`constants`) that it uses: the session must be given them."""
    heads, groups, size = form.query_heads, form.shape.heads, form.shape.size
    add = _Decoder(form, precision, names)
    batch = add.constant("axis.batch", [0])
    add.constant("axis.row", [1])
    spare = add.constant("pad.row", [0, 0, 1, 0])
    begin, end = add.constant("slice.begin", [0]), add.constant("slice.end", [-1])
    add.constant("split.heads", [heads * size, groups * size, groups * size])
    add.constant("split.network", [form.hidden, form.hidden])
    turning = ["rotary.cos", "rotary.sin", "positions"] if form.frequencies is not None else ["", "", ""]

    x = add.embedded()
    change: str | None = None
    for layer in range(form.shape.layers):
        name = f"layers.{layer}."
        if change is None:
            normed = add.normed(x, name + "norm_attention")
        else:
            normed, x = add.add_normed(x, change, name + "norm_attention")
        padded = add("Pad", [add.matrix(normed, name + "query_key_value"), spare])
        fused = add("Unsqueeze", [padded, batch])
        parts = [f"query.{layer}", f"new_key.{layer}", f"new_value.{layer}"]
        add("Split", [fused, "split.heads"], *parts, axis=2)
        mixed = add(
            "GroupQueryAttention",
            [*parts, f"past_key.{layer}", f"past_value.{layer}", "last", "total", *turning, "bias"],
            *(f"mixed.{layer}", f"key.{layer}", f"value.{layer}"),
            domain=CONTRIB,
            num_heads=heads,
            kv_num_heads=groups,
            do_rotary=int(form.frequencies is not None),
        )
        mixed = add("Slice", [add("Squeeze", [mixed, batch]), begin, end, batch])
        if layer == form.shape.layers - 1:
            # Behind the last keys and values only the wanted rows matter: one of a prompt's many.
            mixed, x = add("Gather", [mixed, "wanted"]), add("Gather", [x, "wanted"])
            add.zeros.clear()  # there are other rows now
        change = add.matrix(mixed, name + "attention_out")
        normed, x = add.add_normed(x, change, name + "norm_network")
        inner = add.matrix(normed, name + "expand")
        if form.gated:
            add("Split", [inner, "split.network"], f"gate.{layer}", f"rest.{layer}", axis=1)
            inner = add("Mul", [add.activated(f"gate.{layer}"), f"rest.{layer}"])
        else:
            inner = add.activated(inner)
        bias = name + "contract.bias" if name + "contract.bias" in names else None
        change = add.linear_in_two_bytes(inner, name + "contract.weight", form.width, bias=bias)
    assert change is not None, "a model has at least one layer"
    normed, _ = add.add_normed(x, change, "norm_out")
    head = HEAD if not form.tied or precision != "float32" else EMBED
    add.linear(normed, head, "logits")
    used = {one for node in add.nodes for one in node.input}
    left = {constant: value for constant, value in names.items() if constant in used}
    return add.serialised("sordino-base-decoder/1", form.shape, left), left
