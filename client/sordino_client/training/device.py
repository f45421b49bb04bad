"""Where a base is trained, in which precision, and how much of it one pass may hold. Imports torch.

    device  float32, and on a GPU that has them products in bfloat16
    room    units per pass, and whether layers are computed again on the way back, from the memory that may be used

Adapters, their gradients, their sums and the noise are float32 or more on every device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import torch

from sordino_platform.bases.memory import FLOAT, TRAINER_BYTES, MemoryShape, in_words
from sordino_privacy.dpsgd.engine import PassBounds
from sordino_privacy.dpsgd.one_pass import BUFFER, TOKENS
from sordino_privacy.errors import ConfigurationError, UsageError

Wanted = Literal["auto", "cpu", "cuda", "mps"]
WANTED: Final = get_args(Wanted)
# A pass of a small model fills the caches; a device that computes much at once wants more tokens.
DEVICE_TOKENS: Final[Mapping[str, int]] = {"cpu": TOKENS, "cuda": 16 * TOKENS, "mps": 4 * TOKENS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How a base is trained within a memory. `needed` bytes in all."""

    bounds: PassBounds
    checkpointing: bool
    needed: int


def device_for(wanted: str) -> torch.device:
    """The device of this name; `auto` takes a GPU where there is one. Raises UsageError where there is none such."""
    if wanted not in WANTED:
        raise UsageError(f"there is no device {wanted!r}", hint=f"use one of {', '.join(WANTED)}")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))
    if not there[wanted]:
        raise UsageError(f"this machine has no {wanted} device that torch can use", hint="use cpu or auto")
    return torch.device(wanted)


def precision_for(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU that has it, else float32.

    On a processor float32 always: where AMX units would pay, neither time nor memory was measured.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.float32


def room_for(
    shape: MemoryShape,
    *,
    rank: int,
    unit_tokens: int,
    memory: int,
    device: str = "cpu",
    weight_bytes: int = FLOAT,
) -> Room:
    """How to train adapters of `rank` on a base of this shape within `memory` bytes, units having `unit_tokens` tokens.

    A pass holds as many units as fit, but no more than the device needs to be busy. If not even one unit fits, layers
    are computed again in the backward pass. Raises ConfigurationError, with the figures, if one unit does not fit even
    then.
    """
    adapters = shape.adapters(rank)
    fixed = TRAINER_BYTES + weight_bytes * shape.parameters + 4 * FLOAT * adapters
    needed = 0
    for checkpointing in (False, True):
        unit = unit_tokens * shape.token_bytes(rank=rank, checkpointing=checkpointing) + FLOAT * adapters
        units = min((memory - fixed) // unit, max(1, DEVICE_TOKENS[device] // unit_tokens))
        needed = fixed + max(1, units) * unit
        if units >= 1:
            buffer = min(BUFFER, units * FLOAT * adapters)
            bounds = PassBounds(buffer=max(buffer, FLOAT * adapters), tokens=units * unit_tokens)
            return Room(bounds=bounds, checkpointing=checkpointing, needed=needed)
    raise ConfigurationError(
        f"training this base takes about {in_words(needed)} for one unit of {unit_tokens} tokens; the trainer may use "
        f"{in_words(memory)}",
        hint="give it more (training_memory_gb in member.toml, --memory-gb), agree on fewer windows per unit, or use a "
        "smaller base",
    )


def facts(device: torch.device, dtype: torch.dtype, room: Room) -> dict[str, Any]:
    """How a base is trained, for a person."""
    return {
        "device": device.type,
        "precision": str(dtype).removeprefix("torch."),
        "tokens_per_pass": room.bounds.tokens,
        "checkpointing": room.checkpointing,
        "memory_bytes": room.needed,
    }
