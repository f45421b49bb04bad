"""A base's weights under our own names, layer by layer, with adapters added: the input of the graph and of its oracle.

Adapters are merged: a token then costs what it costs without them, and there is one copy of the weights. They are added
before anything is rounded to integers, so that a small change is not lost in a coarse step.

The end of a document is token 0 in all of the engine, the memory included. In a base it may be another: then the two
change places, here in the rows and in vocabulary.py in the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sordino_client.completion.bases import smoothing
from sordino_client.completion.bases.form import Form
from sordino_client.completion.bases.tensors import Tensors
from sordino_client.completion.bundle import Array
from sordino_privacy.errors import ConfigurationError

# Factors by module: the rows of `up` are outputs, the columns of `down` inputs; the change is `up @ down`.
Adapters = Mapping[str, tuple[Array, Array]]


def paired_factors(factors: Mapping[str, Array]) -> Adapters:
    """`<module>.down` and `<module>.up` as pairs (down, up). Raises ConfigurationError for anything else."""
    modules = {name.rsplit(".", 1)[0] for name in factors}
    if set(factors) != {f"{module}.{part}" for module in modules for part in ("down", "up")}:
        raise ConfigurationError("the adapters are not pairs of factors")
    return {module: (factors[f"{module}.down"], factors[f"{module}.up"]) for module in modules}


class Weights:
    """Reads a folder. `end` is the base's own number of the token that ends a document."""

    def __init__(self, folder: Path, form: Form, *, end: int, adapters: Sequence[Adapters] = ()) -> None:
        """Raises ConfigurationError where a tensor is missing, or an adapter belongs to no matrix."""
        self.form, self._end, self._adapters = form, end, tuple(adapters)
        self._tensors = Tensors(folder)
        # By layer, and behind the last for the output: what the inputs of a matrix are divided by, and its columns
        # multiplied (smoothing.py).
        self.smoothing: Sequence[Mapping[str, Array]] = ()
        layout = form.layout
        # Older files of gpt2 leave the model's own name out.
        self._bare = layout.embed + ".weight" not in self._tensors
        known = {
            layout.layers.format(layer) + module
            for layer in range(form.shape.layers)
            for module in (*layout.query_key_value, layout.attention_out, *layout.expand, layout.contract)
        }
        if strangers := sorted({module for one in self._adapters for module in one} - known):
            raise ConfigurationError(f"an adapter changes {strangers[0]}, which is no matrix of this base")

    def outer(self) -> dict[str, Array]:
        """The tensors outside the layers: `embed.weight` `(vocabulary, width)`, `head.weight` if it differs,
        `position.weight` `(context, width)` if positions have a table, `norm_out.*`. Raises ConfigurationError."""
        form, layout = self.form, self.form.layout
        rows = (form.shape.vocabulary, form.width)
        found = {"embed.weight": self._exchanged(self._read(layout.embed + ".weight", rows))}
        if not form.tied:
            found["head.weight"] = self._exchanged(self._read("lm_head.weight", rows))
        if layout.position is not None:
            table = self._tensors.read(self._name(layout.position + ".weight"))
            if table.ndim != 2 or table.shape[0] < form.shape.context or table.shape[1] != form.width:
                raise ConfigurationError("the base's table of positions does not fit its configuration")
            found["position.weight"] = np.ascontiguousarray(table[: form.shape.context])
        found |= self._norm("norm_out", layout.norm_out)
        if self.smoothing:
            found.setdefault("head.weight", found["embed.weight"])
            smoothing.fold(found, self.smoothing[-1])
        return found

    def layer(self, number: int) -> dict[str, Array]:
        """The matrices `(outputs, inputs)`, biases and norms of one layer; matrices with the same input are joined."""
        form, layout = self.form, self.form.layout
        inside = layout.layers.format(number)
        keys = form.shape.heads * form.shape.size
        queries = form.query_heads * form.shape.size
        split = (queries, keys, keys) if len(layout.query_key_value) > 1 else (queries + 2 * keys,)
        network = (form.hidden,) * len(layout.expand)
        found = self._norm("norm_attention", inside + layout.norm_attention)
        found |= self._norm("norm_network", inside + layout.norm_network)
        for name, modules, outputs, inputs in (
            ("query_key_value", layout.query_key_value, split, form.width),
            ("attention_out", (layout.attention_out,), (form.width,), queries),
            ("expand", layout.expand, network, form.width),
            ("contract", (layout.contract,), (form.width,), form.hidden),
        ):
            pairs = list(zip(modules, outputs, strict=True))
            parts = [self._matrix(inside + module, (rows, inputs)) for module, rows in pairs]
            found[name + ".weight"] = parts[0] if len(parts) == 1 else np.concatenate(parts)
            if any(self._name(f"{inside}{module}.bias") in self._tensors for module in modules):
                biases = [self._bias(inside + module, rows) for module, rows in pairs]
                found[name + ".bias"] = np.concatenate(biases)
        if self.smoothing:
            smoothing.fold(found, self.smoothing[number])
        return found

    def _matrix(self, module: str, shape: tuple[int, int]) -> Array:
        if self.form.layout.transposed:
            matrix = np.ascontiguousarray(self._read(module + ".weight", shape[::-1]).T)
        else:
            matrix = self._read(module + ".weight", shape)
        for adapters in self._adapters:
            if module in adapters:
                down, up = adapters[module]
                fits = down.ndim == up.ndim == 2 and (up.shape[0], down.shape[1]) == shape
                if not fits or up.shape[1] != down.shape[0]:
                    raise ConfigurationError(f"the adapter of {module} does not fit the base")
                matrix += up @ down
                if not np.isfinite(matrix).all():
                    raise ConfigurationError(f"the adapter of {module} holds a value that is not finite")
        return matrix

    def _norm(self, name: str, module: str) -> dict[str, Array]:
        weight = self._read(module + ".weight", (self.form.width,)) + np.float32(self.form.norm_offset)
        found = {name + ".weight": weight}
        if self.form.norm == "layer":
            found[name + ".bias"] = self._read(module + ".bias", (self.form.width,))
        return found

    def _bias(self, module: str, rows: int) -> Array:
        name = module + ".bias"
        return self._read(name, (rows,)) if self._name(name) in self._tensors else np.zeros(rows, np.float32)

    def _read(self, name: str, shape: tuple[int, ...]) -> Array:
        found = self._name(name)
        if self._tensors.shape(found) != shape:
            raise ConfigurationError(f"the base's {name} does not fit its configuration")
        return self._tensors.read(found)

    def _name(self, name: str) -> str:
        return name.split(".", 1)[1] if self._bare and not name.startswith("lm_head") else name

    def _exchanged(self, rows: Array) -> Array:
        if self._end:
            rows[[0, self._end]] = rows[[self._end, 0]]
        return rows
