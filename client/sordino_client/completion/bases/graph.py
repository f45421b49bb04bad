"""A base's decoder as an ONNX graph with the inputs and outputs of our own (completion/graph.py), and its constants.

The same integers by rows, so that a token comes out alike alone and within a block, for this decoder as for ours (ADR
7, ADR 36). Activations that do not come out of a norm are rotated (rotation.py, ADR 53).

Where several heads of queries look at the same keys, `GroupQueryAttention` sees them as rows of one head: the keys are
then laid out for its product once instead of once a head, and no row is ever alone, so no spare row is needed (ADR 43).
A read of `n` tokens attends `sharing * n` rows: first every token with the first head of each group, then every token
with the second, and so on. The kernel wants as many keys and values as rows: behind those of the tokens they are there
again, the bias hides them, and the next read writes over them. The matrix that makes them has its outputs in the order
keys, values, first heads of queries, second heads, and so on: stretches that one look-up lays out as rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_client.completion import quantise
from sordino_client.completion.bases import rotation
from sordino_client.completion.bases.form import Activation, Form
from sordino_client.completion.bases.weights import Weights
from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import Precision
from sordino_client.completion.operators import CONTRIB, Builder, integer_constants

Constant = npt.NDArray[Any]
EMBED, HEAD = "embed.weight", "head.weight"


def constants(weights: Weights, precision: Precision) -> Iterator[tuple[str, Constant]]:
    """Every constant that the session is given, one after the other: no two layers need to be in memory at once."""
    form = weights.form
    if (rotary := form.rotary()) is not None:
        yield from zip(("rotary.cos", "rotary.sin"), rotary, strict=True)
    yield "embedding_scale", np.array(form.embedding_scale, np.float32)
    yield from activation_constants(form.activation).items()
    exact = precision == "float32"
    if not exact:
        yield from integer_constants().items()
        yield from zip(("turn.over", "turn.within"), rotation.factors(form.hidden), strict=True)
    for name, value in weights.outer().items():
        if name == EMBED and not exact:
            integers, scales = quantise.rows(value, quantise.LEVELS[precision])
            yield "rows.integers", integers
            yield "rows.scales", scales
            if form.tied and not weights.smoothing:
                yield HEAD + ".integers", np.ascontiguousarray(integers.T)
                yield HEAD + ".scales", scales
        else:
            yield from _constant(name, value, precision)
    for number in range(form.shape.layers):
        layer = weights.layer(number)
        for name, value in _spread(form, layer if exact else rotation.turned_layer(form, layer)).items():
            yield from _constant(f"layers.{number}.{name}", value, precision)


def _spread(form: Form, layer: dict[str, Array]) -> dict[str, Array]:
    """A layer with its heads in the order in which they are attended as rows."""
    if form.sharing == 1:
        return layer
    shape = form.shape
    heads = np.arange(form.query_heads * shape.size).reshape(shape.heads, form.sharing, shape.size)
    queries = heads.transpose(1, 0, 2).ravel()
    keys_values = len(queries) + np.arange(2 * shape.heads * shape.size)
    order = np.concatenate((keys_values, queries))
    found = dict(layer)
    for part in ("query_key_value.weight", "query_key_value.bias"):
        if part in found:
            found[part] = found[part][order]
    found["attention_out.weight"] = found["attention_out.weight"][:, queries]
    return found


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
        super().__init__(precision, epsilon=form.epsilon, names=names)
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

    def turned(self, inner: str) -> str:
        """Inner activations as the last matrix of a layer reads them."""
        if self.precision == "float32":
            return inner
        blocks = self("MatMul", [self("Reshape", [inner, "shape.blocks"]), "turn.within"])
        return self("Reshape", [self("MatMul", ["turn.over", blocks]), "shape.inner"])

    def activated(self, x: str) -> str:
        if self.form.activation == "silu":
            return self("QuickGelu", [x], domain=CONTRIB, alpha=1.0)
        if self.form.activation == "gelu":
            return self("Gelu", [x])
        inner = self("Mul", [self("Mul", [x, self("Mul", [x, x])]), "gelu.cubic"])
        tanh = self("Tanh", [self("Mul", [self("Add", [x, inner]), "gelu.slope"])])
        return self("Mul", [self("Mul", [x, "gelu.half"]), self("Add", [tanh, "gelu.unit"])])

    def prepare(self) -> None:
        """Shapes, bounds and places that every layer shares."""
        form, shape, sharing = self.form, self.form.shape, self.form.sharing
        each = shape.heads * shape.size
        self.constant("axis.batch", [0])
        self.constant("axis.row", [1])
        self.constant("split.network", [form.hidden, form.hidden])
        if self.precision != "float32":
            over, within = (len(one) for one in rotation.factors(form.hidden))
            self.constant("shape.blocks", [-1, over, within])
            self.constant("shape.inner", [-1, form.hidden])
        self.constant("slice.begin", [0])
        if sharing == 1:
            self.constant("pad.row", [0, 0, 1, 0])
            self.constant("slice.end", [-1])
            return
        self.constant("shape.stretches", [-1, each])
        self.constant("shape.rows", [1, -1, 3 * each])
        self.constant("shape.whole", [-1, sharing * each])
        self.constant("shape.each", [1, -1, 1])
        self.constant("shape.looked", [1, -1, 3])
        count = self("Squeeze", [self("Shape", ["tokens"])])
        every = self("Range", [self.constant("nought", 0), count, self.constant("step", 1)])
        first = self("Mul", [every, self.constant("stretches", sharing + 2)])
        # Row `j * n + t` is token t with the heads j: its stretch of queries, keys and values in what a matrix gives.
        stretches = self.constant("stretch", [[[2 + head, 0, 1]] for head in range(sharing)])
        looked = self("Add", [self("Reshape", [first, "shape.each"]), stretches])
        self("Reshape", [looked, "shape.looked"], "place.rows")
        heads = self("Mul", [count, self.constant("heads", [list(range(sharing))])])
        self("Add", [self("Unsqueeze", [every, "axis.row"]), heads], "place.tokens")

    def attended(self, fused: str, layer: int) -> str:
        """The attention's output for each token, `(n, query heads * size)`, from its queries, keys and values in one
        row."""
        if self.form.sharing == 1:
            padded = self("Unsqueeze", [self("Pad", [fused, "pad.row"]), "axis.batch"])
            mixed = self("Squeeze", [self._attention(padded, layer), "axis.batch"])
            return self("Slice", [mixed, "slice.begin", "slice.end", "axis.batch"])
        rows = self("Gather", [self("Reshape", [fused, "shape.stretches"]), "place.rows"])
        mixed = self._attention(self("Reshape", [rows, "shape.rows"]), layer)
        return self("Reshape", [self("Gather", [mixed, "place.tokens"], axis=1), "shape.whole"])

    def _attention(self, rows: str, layer: int) -> str:
        turning = (
            ["rotary.cos", "rotary.sin", "positions"] if self.form.frequencies is not None else ["", "", ""]
        )
        return self(
            "GroupQueryAttention",
            [rows, "", "", f"past_key.{layer}", f"past_value.{layer}", "last", "total", *turning, "bias"],
            *(f"mixed.{layer}", f"key.{layer}", f"value.{layer}"),
            domain=CONTRIB,
            num_heads=self.form.shape.heads,
            kv_num_heads=self.form.shape.heads,
            do_rotary=int(self.form.frequencies is not None),
        )

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
            every = self("Squeeze", ["positions", "axis.batch"])
            places = self("Slice", [every, "slice.begin", self("Shape", ["tokens"])])
            rows = self("Add", [rows, self("Gather", ["position.weight", places])])
        return rows


def build(form: Form, precision: Precision, names: dict[str, Constant]) -> tuple[bytes, dict[str, Constant]]:
    """The serialised graph, and those of the constants (`constants`) that it uses: the session must be given them."""
    add = _Decoder(form, precision, names)
    add.prepare()

    x = add.embedded()
    change: str | None = None
    for layer in range(form.shape.layers):
        name = f"layers.{layer}."
        if change is None:
            normed = add.normed(x, name + "norm_attention")
        else:
            normed, x = add.add_normed(x, change, name + "norm_attention")
        mixed = add.attended(add.matrix(normed, name + "query_key_value"), layer)
        if layer == form.shape.layers - 1:
            # After the last keys and values only the rows whose logits are wanted matter: one of a prompt's many.
            mixed, x = add("Gather", [mixed, "wanted"]), add("Gather", [x, "wanted"])
            add.zeros.clear()  # the number of rows has changed
        change = add.matrix(mixed, name + "attention_out")
        normed, x = add.add_normed(x, change, name + "norm_network")
        inner = add.matrix(normed, name + "expand")
        if form.gated:
            add("Split", [inner, "split.network"], f"gate.{layer}", f"rest.{layer}", axis=1)
            inner = add("Mul", [add.activated(f"gate.{layer}"), f"rest.{layer}"])
        else:
            inner = add.activated(inner)
        change = add.matrix(add.turned(inner), name + "contract")
    assert change is not None, "a model has at least one layer"
    normed, _ = add.add_normed(x, change, "norm_out")
    head = HEAD if not form.tied or precision != "float32" else EMBED
    add.linear(normed, head, "logits")
    used = {one for node in add.nodes for one in node.input}
    left = {constant: value for constant, value in names.items() if constant in used}
    return add.serialised("sordino-base-decoder/3", form.shape, left), left
