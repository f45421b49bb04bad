"""How this machine computes a pretraining step: in bfloat16 and compiled where that is faster, else in plain float32.

Only processors with matrix units for bfloat16 (Intel's AMX) gain from it; elsewhere it was 11 to 50 times slower. On
one AMX core, at 3.4M parameters and windows of 256 tokens, a step of 4,096 tokens ran at 2.9k tokens per CPU-second in
float32, 4.0k with bfloat16 products, 4.8k to 5.6k compiled, and 7.1k with the attention below and Muon's iterations in
bfloat16 as well: torch's fused attention took 39 % of the compiled step at this head size, most of it backward.
The parameters, their gradients and the optimiser's state stay float32.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sordino_platform.architecture import ModelConfig
from sordino_platform.model import Attention, Decoder, causal_attention, loss

_QUERY_BLOCK = 256


def blocked_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention written out, for the compiler to fuse; a block of queries meets no key behind its end."""
    time, scale, parts = q.shape[2], 1 / math.sqrt(q.shape[3]), []
    for start in range(0, time, _QUERY_BLOCK):
        stop = min(start + _QUERY_BLOCK, time)
        scores = (q[:, :, start:stop] @ k[:, :, :stop].transpose(-1, -2)).float() * scale
        hidden = torch.ones(stop - start, stop, dtype=torch.bool, device=q.device).triu(start + 1)
        weights = torch.softmax(scores.masked_fill(hidden, -math.inf), dim=-1).to(v.dtype)
        parts.append(weights @ v[:, :, :stop])
    return torch.cat(parts, dim=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """One way to compute a step."""

    compiled: bool

    @classmethod
    def of_this_machine(cls) -> Compute:
        """bfloat16 and compiled where there are AMX units and a C++ compiler, else eager float32."""
        return cls(
            compiled=bool(torch.cpu.get_capabilities().get("amx_bf16")) and shutil.which("g++") is not None
        )

    @property
    def matrix_precision(self) -> torch.dtype:
        """What Muon's iterations are computed in."""
        return torch.bfloat16 if self.compiled else torch.float32

    def decoder(self, config: ModelConfig) -> Decoder:
        attention: Attention = blocked_attention if self.compiled else causal_attention
        return Decoder(config, attention)

    def window_loss(self, model: Decoder) -> Callable[[Tensor], Tensor]:
        """Mean loss in nats per token of windows `(rows, tokens + 1)`, to call `backward` on."""

        def plain(windows: Tensor) -> Tensor:
            return loss(model(windows[:, :-1]), windows[:, 1:])

        if not self.compiled:
            return plain
        fused: Callable[[Tensor], Tensor] = torch.compile(plain, dynamic=False)

        def mixed(windows: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return fused(windows)

        return mixed
