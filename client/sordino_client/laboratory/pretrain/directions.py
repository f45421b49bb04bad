"""The initial adapters of a new federation: the directions in which public code moves the base most.

Private training can learn only what is larger than its noise, so an adapter must not waste its few directions. A
layer's gradients on members' code lie mostly in the subspace of its gradients on public code, which is known without
any privacy cost (a public subspace: Zhou, Wu and Banerjee 2021). A `down` matrix starts with the eigenvectors of the
mean of G^T G, the second moment of the weight's gradient G on public windows, in order of decreasing eigenvalue.

An SGD step moves the model along a row in proportion to the row's squared length. So the length of a row is the root
mean square of the gradient along it, to the power of -1/2, and all directions move equally. The lengths are then scaled
to a median of 1, for the layers and for the embedding separately.
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
    """The initial `down` matrices by parameter name: float16, shape `(at most ROWS, inputs)`."""
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
    # The embedding's gradient is a sum over all input and output tokens, so its size differs from the layers'.
    embedding = {name for name, layer in layers.items() if isinstance(layer, Embedding)}
    for kind in (embedding, layers.keys() - embedding):
        lengths = torch.cat([torch.linalg.vector_norm(found[name], dim=1) for name in sorted(kind)])
        for name in kind:
            found[name] = found[name] / lengths.median()
    return {f"{name}.down": rows.half().contiguous() for name, rows in found.items()}


def _rows(moment: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(moment)  # eigenvalues ascend
    sizes = values.flip(0)[:ROWS].clamp(min=1e-6 * float(values[-1])).sqrt()
    rows: Tensor = vectors.flip(1)[:, :ROWS].T * sizes.rsqrt().unsqueeze(1)
    return rows
