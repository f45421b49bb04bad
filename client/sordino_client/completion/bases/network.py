"""A base on ONNX Runtime.

Its constants lie in a mapped file without a name, so that memory holds them once. The session packs the matrices into a
layout of its own; from then on the originals are only on the disk, and a page that is needed after all (a row of the
embedding) is read from there.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

from sordino_client.completion.bases import graph, rotation
from sordino_client.completion.bases.form import Form
from sordino_client.completion.bases.graph import Constant
from sordino_client.completion.bases.weights import Weights
from sordino_client.completion.cache import Precision
from sordino_client.completion.runtime import RuntimeNetwork

ALIGNMENT = 64


def load(weights: Weights, precision: Precision, *, spool: Path | None = None) -> RuntimeNetwork:
    """The network of these weights. `spool`: the folder of the nameless file, else where temporary files go.

    Raises ConfigurationError (a base that does not fit its configuration) or OSError (a full disk).
    """
    size = _bound(weights.form, precision)
    with tempfile.TemporaryFile(dir=spool) as file:
        # Reserved, not sparse: writing to a page that a full disk cannot back would kill the process.
        os.posix_fallocate(file.fileno(), 0, size)
        pages = mmap.mmap(file.fileno(), size)
    held: dict[str, Constant] = {}
    at = 0
    for name, value in graph.constants(weights, precision):
        target = np.frombuffer(pages, value.dtype, value.size, at).reshape(value.shape)
        target[...] = value
        held[name] = target
        at += -(-value.nbytes // ALIGNMENT) * ALIGNMENT
        assert at <= size, "the bound counts every constant"
    serialised, used = graph.build(weights.form, precision, held)
    network = RuntimeNetwork(weights.form.shape, precision, used, serialised, sharing=weights.form.sharing)
    pages.madvise(mmap.MADV_DONTNEED)
    return network


def _bound(form: Form, precision: Precision) -> int:
    """Bytes that no base of this form exceeds."""
    shape, width = form.shape, form.width
    fused = (form.query_heads + 2 * shape.heads) * shape.size
    network = form.hidden * (2 if form.gated else 1)
    rows = fused + width + network + width
    matrices = width * fused + form.query_heads * shape.size * width + width * network + form.hidden * width
    unit = 4 if precision == "float32" else 1
    outer = (2 * unit * width + 8) * shape.vocabulary + 4 * shape.context * width
    rotary = 0 if form.frequencies is None else 2 * 4 * shape.context * 8 * len(form.frequencies)
    floats = 4 * (2 * rows + 4 * width)
    turning = 4 * sum(one.size for one in rotation.factors(form.hidden)) + 2 * ALIGNMENT
    return outer + rotary + turning + shape.layers * (unit * matrices + floats + 16 * ALIGNMENT) + (1 << 16)
