"""Adapters on a base, trained without privacy on a person's own code: `sordino train --base`, and the personal adapter.

Nothing here clips, adds noise or charges, because the result stays on this machine. Memory is bounded as private
training's is (device.py): as many windows a pass as fit, layers computed again on the way back where not even one fits
otherwise. Imports torch, and transformers when it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from sordino_client.training.device import device_for, precision_for, room_for
from sordino_client.training.worker import DEFAULT_MEMORY
from sordino_platform.architecture import HuggingFaceConfig, Parameters, add_adapters
from sordino_platform.bases import shape_at
from sordino_privacy.errors import StorageError

BETAS, EPSILON, DECAY = (0.9, 0.99), 1e-8, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What training on a base may use: bytes of memory, and where it computes (auto, cpu, cuda, mps)."""

    memory: int = DEFAULT_MEMORY
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBase:
    """A base with adapters that are trained. `factors` are the adapters by our names, float32; `at_once` windows fit
    into one pass."""

    config: HuggingFaceConfig
    model: nn.Module = field(repr=False)
    factors: Mapping[str, nn.Parameter] = field(repr=False)
    device: torch.device
    at_once: int

    @classmethod
    def load(
        cls, place: Path, *, rank: int, window: int, means: Means, merged: Parameters | None = None
    ) -> OnBase:
        """Fresh adapters of `rank` on the base in `place`, for windows of `window` tokens; `merged` are adapters that
        it already has and that are not trained.

        Raises ConfigurationError where it does not fit into the memory (nothing is loaded then), or cannot be loaded.
        """
        from sordino_platform.huggingface_model import describe, factors_of, load_base_model

        where = device_for(means.device)
        dtype = precision_for(where)
        # Adapters are merged in float32, whatever the precision of the products afterwards.
        weight_bytes = torch.float32.itemsize if merged else dtype.itemsize
        room = room_for(
            shape_at(place),
            rank=rank,
            unit_tokens=window,
            memory=means.memory,
            device=where.type,
            weight_bytes=weight_bytes,
        )
        config = describe(place, rank=rank)
        model = load_base_model(
            place,
            config,
            add_adapters(config, {}),
            device=where,
            dtype=dtype,
            checkpointing=room.checkpointing,
            merged=merged,
        )
        return cls(
            config=config,
            model=model,
            factors=factors_of(model),
            device=where,
            at_once=max(1, room.bounds.tokens // window),
        )

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The adapters, by our names."""
        return self.factors.items()


class AdamW:
    """Adam with decoupled decay (Loshchilov and Hutter 2019). Its state is a flat mapping of names to tensors, so that
    a checkpoint is one safetensors file."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], *, rate: float) -> None:
        named = dict(parameters)
        self._rate, self._parameters = rate, named
        self._inner = torch.optim.AdamW(named.values(), lr=rate, betas=BETAS, eps=EPSILON, weight_decay=DECAY)
        for parameter in named.values():
            self._inner.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def step(self, factor: float) -> None:
        """Updates every parameter from its gradient, at `factor` times the full rate, and clears the gradients."""
        for group in self._inner.param_groups:
            group["lr"] = self._rate * factor
        self._inner.step()
        self._inner.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """The tensors to write to a checkpoint; the number of steps goes beside them."""
        return {
            f"{part}.{name}": self._inner.state[parameter][part]
            for name, parameter in self._parameters.items()
            for part in ("exp_avg", "exp_avg_sq")
        }

    def load_state(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Restores `state()`. Raises StorageError for a checkpoint of other adapters."""
        known = self.state()
        if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in known.items()}:
            raise StorageError("the checkpoint belongs to other adapters", hint="choose another folder")
        for name, tensor in tensors.items():
            known[name].copy_(tensor)
        for parameter in self._parameters.values():
            self._inner.state[parameter]["step"].fill_(steps)
