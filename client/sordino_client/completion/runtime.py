"""The ONNX Runtime session: one thread, no spinning, one copy of the weights.

One thread because a developer's cores are busy: with two, every operator waits for the slower one. Spinning off
because an idle process must use no processor time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime

from sordino_client.completion import graph
from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import Indices, KeyValueCache, Mask
from sordino_platform.architecture import ModelConfig

ERRORS_ONLY = 3


class RuntimeNetwork:
    """`Network` on ONNX Runtime. `weights` by the names of `architecture.shapes`, float32; kept alive by it."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Array]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # The arena keeps the largest prompt's scratch memory for ever; plain allocation costs 1-2 % here.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False  # made for shapes that repeat; here every length differs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # The session reads these where they lie and packs the matrices into a layout of its own; the caller may
        # then drop the pages (`Bundle.give_back`), which halves what the process carries.
        constants = graph.initializers(config, weights)
        supplied = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in constants.items()
        }
        options.add_external_initializers(list(supplied), list(supplied.values()))
        self.config = config
        self.session = onnxruntime.InferenceSession(
            graph.build(config), options, providers=["CPUExecutionProvider"]
        )
        self._alive = supplied
        self.outputs = [output.name for output in self.session.get_outputs()]

    def read(
        self, cache: KeyValueCache, tokens: Indices, positions: Indices, mask: Mask, wanted: Indices
    ) -> Array:
        """See `Network.read`."""
        start, stop = cache.length, cache.length + len(tokens)
        feed: dict[str, np.ndarray] = {
            "tokens": tokens,
            "positions": positions,
            "bias": np.where(mask, np.float32(0), np.float32(-np.inf)),
            "wanted": wanted,
        }
        for layer in range(self.config.layers):
            feed[f"past_key.{layer}"] = cache.keys[layer, :start]
            feed[f"past_value.{layer}"] = cache.values[layer, :start]
        logits, *rows = self.session.run(self.outputs, feed)
        for layer in range(self.config.layers):
            cache.keys[layer, start:stop] = rows[2 * layer]
            cache.values[layer, start:stop] = rows[2 * layer + 1]
        cache.length = stop
        result: Array = logits
        return result
