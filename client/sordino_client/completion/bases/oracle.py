"""A base's decoder in NumPy, line by line and one layer at a time.

The served graph is compared with it, so it is independent of ONNX Runtime and of the graph. It is never whole in
memory, and reads one text from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from sordino_client.completion.bases import smoothing
from sordino_client.completion.bases.form import Activation, Form
from sordino_client.completion.bases.weights import Weights
from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import Indices
from sordino_client.completion.reference import as_float32, softmax

# (number of the layer, name of the matrix, what it multiplies `(n, inputs)`)
Watch = Callable[[int, str, Array], None]


def logits(weights: Weights, tokens: Indices, *, watch: Watch = lambda *_: None) -> Array:
    """The logits after each of `tokens` `(n,)` (engine numbers): `(n, vocabulary)`, float32."""
    form = weights.form
    outer = weights.outer()
    x = outer["embed.weight"][tokens] * np.float32(form.embedding_scale)
    if "position.weight" in outer:
        x = x + outer["position.weight"][: len(tokens)]
    for number in range(form.shape.layers):
        x = _layer(form, weights.layer(number), x, partial(watch, number))
    x = _norm(form, x, outer, "norm_out")
    watch(form.shape.layers, "head", x)
    result: Array = x @ outer.get("head.weight", outer["embed.weight"]).T
    return result


def smoothed(weights: Weights, tokens: Indices) -> list[dict[str, Array]]:
    """Values for `weights.smoothing`, by layer and norm, each `(inputs,)`, measured while the decoder reads `tokens`
    `(n,)`."""
    layers = weights.form.shape.layers
    seen: list[dict[str, Array]] = [{} for _ in range(layers + 1)]

    def watch(number: int, name: str, x: Array) -> None:
        if name in smoothing.NORMS:
            magnitudes = np.abs(x[smoothing.SKIPPED :])
            seen[number][name] = np.quantile(magnitudes, smoothing.USUAL, axis=0).astype(np.float32)

    logits(weights, tokens, watch=watch)
    for number, layer in enumerate(seen[:layers]):
        matrices = weights.layer(number)
        for name in layer:
            layer[name] = smoothing.factors(layer[name], matrices[name + ".weight"])
    outer = weights.outer()
    head = outer.get("head.weight", outer["embed.weight"])
    seen[-1]["head"] = smoothing.factors(seen[-1]["head"], head)
    return seen


def _layer(form: Form, layer: dict[str, Array], x: Array, watch: Callable[[str, Array], None]) -> Array:
    def linear(name: str, given: Array) -> Array:
        watch(name, given)
        return _linear(layer, name, given)

    new, shape = len(x), form.shape
    heads, groups, size = form.query_heads, form.shape.heads, shape.size
    fused = linear("query_key_value", _norm(form, x, layer, "norm_attention"))
    query, key, value = np.split(fused, [heads * size, (heads + groups) * size], axis=1)
    query, key = _turned(form, query.reshape(new, heads, size)), _turned(form, key.reshape(new, groups, size))
    values = value.reshape(new, groups, size)
    seen = np.tri(new, dtype=np.bool_)
    mixed = np.empty((new, heads, size), np.float32)
    for head in range(heads):
        group = head // (heads // groups)
        scores = query[:, head] @ key[:, group].T / np.float32(size**0.5)
        mixed[:, head] = softmax(np.where(seen, scores, np.float32(-np.inf))) @ values[:, group]
    x = x + linear("attention_out", mixed.reshape(new, -1))
    inner = linear("expand", _norm(form, x, layer, "norm_network"))
    if form.gated:
        gate, rest = np.split(inner, 2, axis=1)
        inner = activated(gate, form.activation) * rest
    else:
        inner = activated(inner, form.activation)
    return x + linear("contract", inner)


def activated(x: Array, kind: Activation) -> Array:
    """The network's non-linearity, place by place: any shape in, the same shape out."""
    if kind == "silu":
        return as_float32(x / (1 + np.exp(-x.astype(np.float64))))
    if kind == "gelu":
        from scipy.special import erf

        return as_float32(x * 0.5 * (1 + erf(x / 2**0.5)))
    return as_float32(0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))))


def _linear(layer: dict[str, Array], name: str, x: Array) -> Array:
    result: Array = x @ layer[name + ".weight"].T
    return result + layer[name + ".bias"] if name + ".bias" in layer else result


def _norm(form: Form, x: Array, weights: dict[str, Array], name: str) -> Array:
    if form.norm == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + np.float32(form.epsilon))
    result = as_float32(x / scale) * weights[name + ".weight"]
    return result + weights[name + ".bias"] if name + ".bias" in weights else result


def _turned(form: Form, x: Array) -> Array:
    if form.frequencies is None:
        return x
    angle = np.outer(np.arange(len(x)), form.frequencies.astype(np.float64))[:, None]
    cos, sin = as_float32(np.cos(angle)), as_float32(np.sin(angle))
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)
