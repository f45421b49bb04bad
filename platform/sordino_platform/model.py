"""The decoder language model, whole, in one file.

A pre-norm transformer in the line of nanoGPT (Karpathy 2022) with what small models gained since: rotary
positions (Su et al. 2021), RMSNorm (Zhang and Sennrich 2019), RMS-normalised queries and keys (Henry et al.
2020), squared ReLU (So et al. 2021), no biases, tied input and output embeddings.

What is shaped by private training: every trainable parameter is owned by one of three module kinds (`Linear`,
`Embedding`, `RMSNorm`, below), so a per-unit gradient rule exists for each and an unknown kind can be refused.
The tied embedding is *one module called twice* (`embed(tokens)`, `embed.logits(hidden)`), never a functional
reuse of its weight: Opacus' hooks are silently wrong on the latter.

Low-rank adapters (Hu et al. 2021) are part of `Linear`: rank 0 means none. `ModelConfig.trainable` names the
subset that a federation trains; `flatten`/`unflatten` carry exactly that subset, in sorted name order, as one
float32 vector. That vector is the only form in which parameters meet the aggregation protocol.

    >>> model = Decoder(SIZES["2.3m"])
    >>> vector = flatten(model)                       # float32, shape (model.trainable_count(),)
    >>> unflatten(model, vector)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sordino_privacy.errors import ConfigurationError

Trainable = Literal["full", "adapter"]
MAX_PARAMETERS = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The architecture: everything that fixes the shapes of the parameters.

    `width` must be `heads` times an even head size. `context` is in tokens. `adapter_rank` 0 means no adapters.
    """

    vocabulary: int = 4096
    context: int = 512
    layers: int = 6
    heads: int = 6
    width: int = 192
    hidden: int = 768
    rope_base: float = 10_000.0
    adapter_rank: int = 0
    trainable: Trainable = "full"

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.context, self.layers, self.heads, self.width, self.hidden)
        if any(size < 1 or size > 1 << 20 for size in sizes) or self.width % (2 * self.heads):
            raise ConfigurationError("the model configuration has impossible sizes", hint="use one of SIZES")
        if (
            self.vocabulary * self.width + self.layers * self.width * (self.width + self.hidden)
            > MAX_PARAMETERS
        ):
            raise ConfigurationError("the model configuration is larger than 2^30 parameters")
        if not 0 <= self.adapter_rank <= self.width:
            raise ConfigurationError("adapter_rank must lie between 0 and the width")
        if self.trainable not in ("full", "adapter") or (
            self.trainable == "adapter" and not self.adapter_rank
        ):
            raise ConfigurationError("trainable must be 'full', or 'adapter' with an adapter_rank above 0")

    def digest(self) -> bytes:
        """SHA-256 of the canonical form; two configurations with one digest have one parameter layout."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(b"sordino-model/1\n" + text.encode()).digest()


# The prototype's two sizes, and the base that ships: 2,267,008 / 3,447,424 / 22,032,256 parameters without adapters
# (a test checks them).
SIZES: dict[str, ModelConfig] = {
    "2.3m": ModelConfig(layers=4, hidden=576),
    "3.4m": ModelConfig(),
    "22m": ModelConfig(layers=8, heads=7, width=448, hidden=1920),
}


class RMSNorm(nn.Module):
    """`x / rms(x) * weight` over the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, eps=1e-6)


class Linear(nn.Module):
    """`x @ weight.T`, plus `x @ down.T @ up.T` when it carries an adapter. `up` starts at zero: no change at first."""

    def __init__(self, inputs: int, outputs: int, rank: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * (scale / math.sqrt(inputs)))
        self.rank = rank
        if rank:
            self.down = nn.Parameter(torch.randn(rank, inputs) / math.sqrt(inputs))
            self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight)
        return y + F.linear(F.linear(x, self.down), self.up) if self.rank else y

    def merged(self) -> Tensor:
        """The effective weight, `weight + up @ down`, shape `(outputs, inputs)`."""
        return self.weight + self.up @ self.down if self.rank else self.weight


class Embedding(nn.Module):
    """The tied embedding: token lookup on the way in, logits on the way out, and a trainable output bias."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocabulary, width) * 0.02)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.weight)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.weight, self.bias)


def rotary_table(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each `(context, head_size / 2)`, for `rotate`."""
    half = config.width // config.heads // 2
    frequency = config.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(config.context, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the two halves of the last axis of `x`, `(..., time, head_size)`, by position (RoPE, "rotate half")."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Block(nn.Module):
    """Attention, then a squared-ReLU network, each behind its own norm and added to the stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, rank = config.width, config.adapter_rank
        depth_scale = 1 / math.sqrt(2 * config.layers)
        self.heads = config.heads
        self.norm_attention = RMSNorm(width)
        self.query_key_value = Linear(width, 3 * width, rank)
        self.attention_out = Linear(width, width, rank, scale=depth_scale)
        self.norm_network = RMSNorm(width)
        self.expand = Linear(width, config.hidden, rank)
        self.contract = Linear(config.hidden, width, rank, scale=depth_scale)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, width = x.shape
        split = self.query_key_value(self.norm_attention(x)).view(
            batch, time, 3, self.heads, width // self.heads
        )
        q, k, v = split.permute(2, 0, 3, 1, 4)
        size = (q.shape[-1],)
        q = rotate(F.rms_norm(q, size, eps=1e-6), cos, sin)
        k = rotate(F.rms_norm(k, size, eps=1e-6), cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, time, width))
        network: Tensor = self.contract(F.relu(self.expand(self.norm_network(x))).square())
        return x + network


class Decoder(nn.Module):
    """Tokens `(batch, time)` to logits `(batch, time, vocabulary)`; `time` at most `config.context`."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocabulary, config.width)
        self.norm_in = RMSNorm(config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm_out = RMSNorm(config.width)
        cos, sin = rotary_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        names = set(trainable_names(self))
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in names)

    def forward(self, tokens: Tensor) -> Tensor:
        time = tokens.shape[1]
        cos, sin = self.cos[:time], self.sin[:time]
        x = self.norm_in(self.embed(tokens))
        for block in self.blocks:
            x = block(x, cos, sin)
        logits: Tensor = self.embed.logits(self.norm_out(x))
        return logits

    def trainable_count(self) -> int:
        """The length of the federation's vector."""
        return sum(parameter.numel() for _, parameter in trainable(self))


def trainable_names(model: Decoder) -> list[str]:
    """The names that a federation with this configuration trains, sorted: the order of the vector.

    `full`: every parameter. `adapter`: the adapters' factors, the norms and the output bias, which is what kept
    most of the gain under noise when it was measured.
    """
    names = sorted(name for name, _ in model.named_parameters())
    if model.config.trainable == "full":
        return names
    return [n for n in names if n.endswith((".down", ".up", ".bias")) or ".norm_" in f".{n}"]


def trainable(model: Decoder) -> Iterator[tuple[str, nn.Parameter]]:
    """`(name, parameter)` of the trained subset, in the order of the vector."""
    parameters = dict(model.named_parameters())
    return ((name, parameters[name]) for name in trainable_names(model))


def flatten(model: Decoder) -> npt.NDArray[np.float32]:
    """The trained subset as one float32 vector, shape `(model.trainable_count(),)`."""
    return np.concatenate([p.detach().numpy().reshape(-1) for _, p in trainable(model)]).astype(
        np.float32, copy=False
    )


def unflatten(model: Decoder, vector: npt.NDArray[np.float32]) -> None:
    """Writes a vector made by `flatten` back. Raises ConfigurationError where the length, type or values do not fit."""
    if vector.dtype != np.float32 or vector.shape != (model.trainable_count(),):
        raise ConfigurationError("the parameter vector does not fit this model's configuration")
    if not np.isfinite(vector).all():
        raise ConfigurationError("the parameter vector holds a value that is not finite")
    start = 0
    with torch.no_grad():
        for _, parameter in trainable(model):
            stop = start + parameter.numel()
            parameter.copy_(torch.from_numpy(vector[start:stop].copy()).view_as(parameter))
            start = stop


def loss(logits: Tensor, targets: Tensor, *, ignore: int = -100) -> Tensor:
    """Mean cross-entropy in nats per token; `targets` `(batch, time)`, positions equal to `ignore` do not count."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=ignore)


def with_adapters(config: ModelConfig, rank: int) -> ModelConfig:
    """The same architecture with adapters of `rank` as the trained subset (rank 0: the full model)."""
    return replace(config, adapter_rank=rank, trainable="adapter" if rank else "full")


def merged_weights(model: Decoder) -> dict[str, npt.NDArray[np.float32]]:
    """Effective weights by name, adapters folded in: what the completion engine loads."""
    plain = {n: p.detach().numpy() for n, p in model.named_parameters() if not n.endswith((".down", ".up"))}
    for name, module in model.named_modules():
        if isinstance(module, Linear) and module.rank:
            plain[f"{name}.weight"] = module.merged().detach().numpy()
    return plain
