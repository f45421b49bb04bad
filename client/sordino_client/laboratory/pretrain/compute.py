"""How this machine computes a pretraining step: in bfloat16 and compiled if that is faster, else in plain float32.

Only processors with bfloat16 instructions gain from it; others were 11 to 50 times slower. Tokens per CPU-second of a
step of 4,096 tokens at 3.4M parameters, one core:

                                              AMX, windows of 256     AVX-512 BF16, windows of 512
    float32                                   2.9k                    2.5k
    bfloat16 products                         4.0k                    4.7k
    compiled as well                          4.8k to 5.6k            5.0k
    and the attention below                   7.1k                    6.9k

torch's fused attention took 39 % of the compiled step at this head size, most of it backward. On an accelerator torch's
own attention is faster, so it is used there. Parameters, gradients and optimiser state are always float32.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from sordino_platform.architecture import ModelConfig
from sordino_platform.model import Attention, Decoder, causal_attention, loss
from sordino_privacy.errors import ConfigurationError

Device = Literal["cpu", "cuda", "mps"]
DEVICES = ("auto", "cpu", "cuda", "mps")
_QUERY_BLOCK = 256


def blocked_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention in basic operations, for the compiler to fuse. A query block skips the keys after its end."""
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
    """One way to compute a step. `half`: matrix products in bfloat16."""

    compiled: bool
    half: bool
    device: Device = "cpu"

    @classmethod
    def of_this_machine(cls, device: str = "auto") -> Self:
        """The fastest way on `device`, one of DEVICES. Raises ConfigurationError if this machine does not have it."""
        available: dict[str, bool] = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
        if device == "auto":
            device = next(name for name, here in available.items() if here)
        if not available.get(device, False):
            raise ConfigurationError(
                f"there is no device {device!r} that torch can use here", hint="use --device auto"
            )
        match device:
            case "cuda":
                # The compiler writes its kernels in Triton, which comes with torch's builds for this device.
                compiled = importlib.util.find_spec("triton") is not None
                return cls(device="cuda", compiled=compiled, half=torch.cuda.is_bf16_supported())
            case "mps":
                return cls(device="mps", compiled=False, half=False)
            case _:
                able = torch.cpu.get_capabilities()
                fast = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
                fast = fast and shutil.which("g++") is not None
                return cls(compiled=fast, half=fast)

    @property
    def matrix_precision(self) -> torch.dtype:
        """The precision of Muon's iterations."""
        return torch.bfloat16 if self.half else torch.float32

    def prepare(self, *, seed: int, threads: int) -> None:
        """Sets up torch so that a run can be repeated bit for bit on this device."""
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        if self.device != "cpu":
            # If the device has no deterministic version of an operation, torch warns and the run continues.
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow
            torch.set_float32_matmul_precision("high")

    def decoder(self, config: ModelConfig) -> Decoder:
        written_out = self.compiled and self.device == "cpu"
        attention: Attention = blocked_attention if written_out else causal_attention
        return Decoder(config, attention).to(self.device)

    def window_loss(self, model: Decoder) -> Callable[[Tensor], Tensor]:
        """Mean loss in nats per token of windows `(rows, tokens + 1)` on the device, to call `backward` on."""

        def plain(windows: Tensor) -> Tensor:
            return loss(model(windows[:, :-1]), windows[:, 1:])

        run: Callable[[Tensor], Tensor] = torch.compile(plain, dynamic=False) if self.compiled else plain

        def mixed(windows: Tensor) -> Tensor:
            with self._precision():
                return run(windows)

        return mixed

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.half else nullcontext()
