"""The whole decoder language model in one file.

A pre-norm transformer like nanoGPT (Karpathy 2022), with later improvements for small models: rotary positions (Su et
al. 2021), RMSNorm (Zhang and Sennrich 2019), RMS-normalised queries and keys (Henry et al. 2020), squared ReLU (So et
al. 2021), no biases, tied input and output embeddings.

Private training decides two things. Every trainable parameter belongs to one of three module kinds (`Linear`,
`Embedding`, `RMSNorm`, below), so a per-unit gradient rule exists for each and an unknown kind can be refused. The tied
embedding is *one module called twice* (`embed(tokens)`, `embed.logits(hidden)`), never a functional reuse of its
weight: there Opacus' hooks give wrong gradients without an error.

Low-rank adapters (Hu et al. 2021) are part of `Linear`: rank 0 means none. The configuration, the order of the
trained parameters and their vector form live in architecture.py, which needs no torch.

    >>> model = Decoder(SIZES["2.3m"])
    >>> logits = model(tokens)                # (batch, time) -> (batch, time, vocabulary)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sordino_platform.architecture import ModelConfig, Parameters, check, trainable_names


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
    """The tied embedding: token lookup on the way in, logits on the way out, and a trainable output bias.

    With an adapter it is `weight + up @ down` on both ways, like the adapter of `Linear`.
    """

    def __init__(self, vocabulary: int, width: int, rank: int = 0) -> None:
        super().__init__()
        self.rank = rank
        if rank:
            self.down = nn.Parameter(torch.randn(rank, width) / math.sqrt(width))
            self.up = nn.Parameter(torch.zeros(vocabulary, rank))
        self.weight = nn.Parameter(torch.randn(vocabulary, width) * 0.02)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.embedding(tokens, self.weight)
        return x + torch.matmul(F.embedding(tokens, self.up), self.down) if self.rank else x

    def logits(self, hidden: Tensor) -> Tensor:
        y = F.linear(hidden, self.weight, self.bias)
        return y + F.linear(F.linear(hidden, self.down), self.up) if self.rank else y


# Queries, keys and values `(batch, heads, time, head_size)` to the mixed values. Each position sees only those up to
# itself.
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's own fused attention."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


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

    def __init__(self, config: ModelConfig, attention: Attention) -> None:
        super().__init__()
        width, rank = config.width, config.adapter_rank
        depth_scale = 1 / math.sqrt(2 * config.layers)
        self.heads, self.attention = config.heads, attention
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
        mixed = self.attention(q, k, v)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, time, width))
        network: Tensor = self.contract(F.relu(self.expand(self.norm_network(x))).square())
        return x + network


class Decoder(nn.Module):
    """Tokens `(batch, time)` to logits `(batch, time, vocabulary)`; `time` at most `config.context`."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, attention: Attention = causal_attention) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocabulary, config.width, config.embedding_rank)
        self.norm_in = RMSNorm(config.width)
        self.blocks = nn.ModuleList(Block(config, attention) for _ in range(config.layers))
        self.norm_out = RMSNorm(config.width)
        cos, sin = rotary_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        names = set(trainable_names(config, [name for name, _ in self.named_parameters()]))
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


def parameters_of(model: Decoder) -> dict[str, npt.NDArray[np.float32]]:
    """A copy of every parameter by name, float32."""
    return {name: p.detach().numpy().astype(np.float32, copy=True) for name, p in model.named_parameters()}


def build_decoder(config: ModelConfig, parameters: Parameters) -> Decoder:
    """A model with these `parameters`. Raises ConfigurationError when they are not this configuration's."""
    check(config, parameters)
    model = Decoder(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(parameters[name])))
    return model


def loss(logits: Tensor, targets: Tensor, *, ignore: int = -100) -> Tensor:
    """Mean cross-entropy in nats per token; `targets` `(batch, time)`, positions equal to `ignore` do not count."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=ignore)
