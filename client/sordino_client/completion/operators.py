"""The operators of our decoders' graphs, and the inputs and outputs that runtime.py gives them.

A matrix is float32, or integers (quantise.py); then each row of activations is rounded to unsigned bytes by its own
largest magnitude. Weights are not in the graph: they are given to the session as external initializers, without a
second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from sordino_client.completion.cache import DecoderShape, Precision

CONTRIB = "com.microsoft"
# Activations as unsigned bytes: around this zero, or from zero up where none is negative.
MIDDLE, BYTE = 128, 255
KINDS = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
}


def integer_constants() -> dict[str, npt.NDArray[Any]]:
    """The scalars that `Builder.linear` needs besides the matrices, if these are integers."""
    return {
        "one": np.array(1, np.float32),
        "step.around": np.array(1 / (MIDDLE - 1), np.float32),
        "step.above": np.array(1 / BYTE, np.float32),
        "zero.around": np.array(MIDDLE, np.uint8),
        "zero.above": np.array(0, np.uint8),
    }


class Builder:
    """Collects nodes; each call names its outputs after itself."""

    def __init__(
        self, precision: Precision, *, epsilon: float, names: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        """`names`: the constants that the session will be given."""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.precision, self.epsilon = precision, epsilon
        self.zeros: dict[str, str] = {}
        # A block of a whole row: a scale for each, without a shape of its own.
        self.inputs = {
            name.removesuffix(".integers"): value.shape[0]
            for name, value in names.items()
            if name.endswith(".integers")
        }

    def __call__(
        self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any
    ) -> str:
        names = outputs or (f"{kind}.{len(self.nodes)}",)
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0]

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        array = np.asarray(values, np.int64)
        self.constants.append(helper.make_tensor(name, TensorProto.INT64, array.shape, array.ravel()))
        return name

    def norm(self, x: str, weight: str) -> str:
        return self("SimplifiedLayerNormalization", [x, weight], axis=-1, epsilon=self.epsilon, stash_type=1)

    def add_and_norm(self, x: str, change: str, weight: str) -> tuple[str, str]:
        """The stream with a change added, normed and as it is."""
        normed, total = f"normed.{len(self.nodes)}", f"stream.{len(self.nodes)}"
        outputs = (normed, "", "", total)
        self(
            "SkipSimplifiedLayerNormalization",
            [x, change, weight],
            *outputs,
            domain=CONTRIB,
            epsilon=self.epsilon,
        )
        return normed, total

    def linear(
        self, x: str, weight: str, *output: str, bias: str | None = None, positive: bool = False
    ) -> str:
        """`x` times a matrix; `positive` says that no activation is negative.

        A row of zeros has the scale 0; its bytes do not matter, because the product is multiplied by 0.
        """
        if self.precision == "float32":
            return self("Gemm", [x, weight, *([bias] if bias else [])], *output, transB=1)
        kind = "above" if positive else "around"
        magnitudes = x if positive else self("Abs", [x])
        largest = self("ReduceMax", [magnitudes, "axis.row"], keepdims=1)
        step = self("Mul", [largest, f"step.{kind}"])
        bytes_ = self(
            "QuantizeLinear", [x, step, self._zeros_of(kind, step)], axis=1, block_size=self.inputs[weight]
        )
        inputs = [bytes_, weight + ".integers", "one", weight + ".scales", f"zero.{kind}"]
        product = self("MatMulIntegerToFloat", inputs, domain=CONTRIB)
        if bias is None:
            return self("Mul", [product, step], *output)
        return self("Add", [self("Mul", [product, step]), bias], *output)

    def _zeros_of(self, kind: str, step: str) -> str:
        """The zero of each row's bytes, made once."""
        if kind not in self.zeros:
            shape = self("Shape", [step])
            self.zeros[kind] = self("Expand", [f"zero.{kind}", shape])
        return self.zeros[kind]

    def serialised(self, name: str, shape: DecoderShape, constants: Mapping[str, npt.NDArray[Any]]) -> bytes:
        """The graph's bytes. `constants` are declared in it and must be supplied to the session."""
        info = helper.make_tensor_value_info
        inputs = [
            info("tokens", TensorProto.INT64, ["new"]),
            info("positions", TensorProto.INT64, [1, "attending"]),
            info("bias", TensorProto.FLOAT, [1, 1, "attending", "total"]),
            info("last", TensorProto.INT32, [1]),
            info("total", TensorProto.INT32, []),
            info("wanted", TensorProto.INT64, ["chosen"]),
        ]
        outputs = [info("logits", TensorProto.FLOAT, ["chosen", shape.vocabulary])]
        rows: list[str | int | None] = [1, shape.heads, "rows", shape.size]
        for layer in range(shape.layers):
            for kind in ("key", "value"):
                inputs.append(info(f"past_{kind}.{layer}", TensorProto.FLOAT, rows))
                outputs.append(info(f"{kind}.{layer}", TensorProto.FLOAT, rows))
        declared = [_external(name, value) for name, value in constants.items()]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, initializer=self.constants + declared)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)],
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
