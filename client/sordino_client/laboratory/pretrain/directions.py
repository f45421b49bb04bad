"""Where the adapters of a new federation begin: the directions in which public code moves the base most.

Private training can learn only what stands out of its noise, so an adapter must not waste its few directions. What a
layer's gradient spans on public code, it mostly spans on members' code too; that is known before anybody's privacy is
spent (a public subspace: Zhou, Wu and Banerjee 2021). A `down` begins with the eigenvectors of the mean of G^T G, the
second moment of the weight's gradient G on public windows, the largest first.

A plain step of SGD moves the model along a row by the row's squared length. Rows are as long as the gradient's root
mean square along them to the power of -1/2, so that all directions move alike; the median length is 1, of the layers
and of the embedding by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sordino_client.training.stream import Position, Shard, WindowStream
from sordino_platform.model import Decoder, Embedding, Linear, loss

ROWS = 16
WINDOW = 128


def adapter_directions(
    model: Decoder, shard: Shard, *, batches: int = 60, windows: int = 16, seed: int = 20261125
) -> dict[str, Tensor]:
    """By the name of an adapter's `down`: float16, shape `(at most ROWS, inputs)`."""
    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, Linear | Embedding)
    }
    moments = {name: torch.zeros((layer.weight.shape[1],) * 2).double() for name, layer in layers.items()}
    stream = WindowStream(shard, min(WINDOW, model.config.context), seed, Position())
    for _ in range(batches):
        tokens = torch.from_numpy(stream.batch(windows))
        value = loss(model(tokens[:, :-1]), tokens[:, 1:])
        weights = [layer.weight for layer in layers.values()]
        for name, gradient in zip(layers, torch.autograd.grad(value, weights), strict=True):
            moments[name] += gradient.T.double() @ gradient.double()
    found = {name: _rows(moment) for name, moment in moments.items()}
    # The embedding's gradient is a sum over everything that is read and written, of another size than the layers'.
    embedding = {name for name, layer in layers.items() if isinstance(layer, Embedding)}
    for kind in (embedding, layers.keys() - embedding):
        lengths = torch.cat([torch.linalg.vector_norm(found[name], dim=1) for name in sorted(kind)])
        for name in kind:
            found[name] = found[name] / lengths.median()
    return {f"{name}.down": rows.half().contiguous() for name, rows in found.items()}


def _rows(moment: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(moment)  # ascending
    sizes = values.flip(0)[:ROWS].clamp(min=1e-6 * float(values[-1])).sqrt()
    rows: Tensor = vectors.flip(1)[:, :ROWS].T * sizes.rsqrt().unsqueeze(1)
    return rows
