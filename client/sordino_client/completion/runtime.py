"""A decoder in an ONNX Runtime session: one thread, no spinning, one copy of the weights, no copies between tokens.

One thread because a developer's cores are busy: with two, every operator waits for the slower one. Spinning off
because an idle process must use no processor time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from sordino_client.completion import graph
from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import (
    DecoderShape,
    Indices,
    KeyValueCache,
    Mask,
    Precision,
    decoder_shape_of,
)
from sordino_platform.architecture import ModelConfig

ERRORS_ONLY = 3
# Attention in tiles is for many threads and long texts: on one thread, all scores of a head at once are quicker for one
# row, for a block and for a prompt (ADR 53). The kernel asks the environment when it is made.
SCORES_AT_ONCE = ("ORT_GQA_DISABLE_FLASH_ATTENTION", "1")
# How many rows that attention is given in one run if a token is several rows: then most of its products are needed.
MOST_ROWS = 192
# Where a token is several rows, a cache begins with one at which nobody looks: in the very first read the kernel would
# number the rows itself.
FIRST_ROWS = 1


class RuntimeNetwork:
    """`Network` on ONNX Runtime.

    `constants` are the initialisers that `serialised`, a graph with the inputs and outputs of graph.py, leaves to the
    session; they are kept alive by it.
    """

    def __init__(
        self,
        shape: DecoderShape,
        precision: Precision,
        constants: Mapping[str, npt.NDArray[Any]],
        serialised: bytes,
        *,
        sharing: int = 1,
    ) -> None:
        """`sharing`: how many rows of the attention one token takes (bases/graph.py)."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # The arena would keep the largest prompt's scratch memory for ever; without it a token takes 1-2 % longer.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False  # made for shapes that repeat; here every length differs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # The session reads these where they lie and packs the matrices into a layout of its own; the caller may
        # then drop the pages (`Bundle.give_back`), which halves what the process carries.
        supplied = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in constants.items()
        }
        options.add_external_initializers(list(supplied), list(supplied.values()))
        self.shape, self.precision, self._sharing = shape, precision, sharing
        os.environ.setdefault(*SCORES_AT_ONCE)
        self.session = onnxruntime.InferenceSession(serialised, options, providers=["CPUExecutionProvider"])
        self._alive = supplied
        self._binding = self.session.io_binding()
        self._bound: tuple[Array, Array] | None = None

    def read(
        self, cache: KeyValueCache, tokens: Indices, positions: Indices, mask: Mask, wanted: Indices
    ) -> Array:
        """See `Network.read`."""
        self._bind(cache)
        logits = np.empty((len(wanted), self.shape.vocabulary), np.float32)
        start, first, room = 0, cache.length, self._room(cache)
        if len(tokens) <= room:
            self._run(cache, tokens, positions, mask, wanted, logits)
            return logits
        while start < len(tokens):
            stop = min(start + room, len(tokens))
            asked = np.flatnonzero((start <= wanted) & (wanted < stop))
            whole = len(asked) == len(wanted)
            found = logits if whole else np.empty((max(len(asked), 1), self.shape.vocabulary), np.float32)
            some = wanted[asked] - start if len(asked) else np.zeros(1, np.int64)  # a product needs a row
            part = slice(start, stop)
            self._run(cache, tokens[part], positions[part], mask[part, : first + stop], some, found)
            if not whole and len(asked):
                logits[asked] = found
            start, room = stop, self._room(cache)
        return logits

    def _room(self, cache: KeyValueCache) -> int:
        """How many tokens one run may read: what they spread over must fit behind the cache's rows."""
        if self._sharing == 1:
            return int(cache.keys.shape[2])
        rows = int(cache.keys.shape[2]) - FIRST_ROWS - cache.length
        return max(min(rows, MOST_ROWS) // self._sharing, 1)

    def _run(
        self,
        cache: KeyValueCache,
        tokens: Indices,
        positions: Indices,
        mask: Mask,
        wanted: Indices,
        logits: Array,
    ) -> None:
        count, sharing = len(tokens), self._sharing
        length = cache.length + count
        unseen = ~mask
        if sharing == 1:
            # The graph attends one row more than there are tokens (graph.py); it may look everywhere, and no other row
            # looks at it.
            attending, places = count + 1, np.empty(count + 1, np.int64)
            places[:-1], places[-1] = positions, positions[-1]
            bias = np.zeros((attending, cache.length + attending), np.float32)
            bias[:-1, :-1][unseen] = bias[:-1, -1] = -np.inf
        else:
            attending, places = count * sharing, np.tile(positions, sharing)
            bias = np.full((attending, FIRST_ROWS + cache.length + attending), -np.inf, np.float32)
            bias.reshape(sharing, count, -1)[:, :, FIRST_ROWS : FIRST_ROWS + length][:, ~unseen] = 0
            if not cache.length:
                cache.keys[:, :, :FIRST_ROWS] = cache.values[:, :, :FIRST_ROWS] = 0
        binding, total = self._binding, bias.shape[1]
        binding.bind_cpu_input("tokens", tokens)
        binding.bind_cpu_input("positions", places[None])
        binding.bind_cpu_input("bias", bias[None, None])
        binding.bind_cpu_input("last", np.array([total - 1], np.int32))
        binding.bind_cpu_input("total", np.array(total, np.int32))
        binding.bind_cpu_input("wanted", wanted)
        binding.bind_ortvalue_output("logits", onnxruntime.OrtValue.ortvalue_from_numpy(logits))
        self.session.run_with_iobinding(binding)
        cache.length = length

    def _bind(self, cache: KeyValueCache) -> None:
        """Names the cache's buffers as the past and as what is written: the rows are appended in place."""
        if self._bound is not None and self._bound[0] is cache.keys and self._bound[1] is cache.values:
            return
        for layer in range(self.shape.layers):
            for name, rows in (("key", cache.keys), ("value", cache.values)):
                value = onnxruntime.OrtValue.ortvalue_from_numpy(rows[layer : layer + 1])
                self._binding.bind_ortvalue_input(f"past_{name}.{layer}", value)
                self._binding.bind_ortvalue_output(f"{name}.{layer}", value)
        self._bound = (cache.keys, cache.values)


def own_network(
    config: ModelConfig, weights: Mapping[str, Array], precision: Precision = "float32"
) -> RuntimeNetwork:
    """A model of our own architecture. `weights` by the names of `architecture.shapes`, float32."""
    constants = graph.initializers(config, weights, precision)
    return RuntimeNetwork(
        decoder_shape_of(config), precision, constants, graph.build(config, precision, constants)
    )
