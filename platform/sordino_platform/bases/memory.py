"""Estimates how much memory a base takes, before any of it is loaded.

The figures are for this project's own trainer and server. A test checks them: it trains a small base and measures.
docs/bases.md compares them with figures measured on SmolLM2.
"""

from __future__ import annotations

from dataclasses import dataclass

from sordino_platform.machine import memory as machine
from sordino_privacy.errors import ConfigurationError

# torch, transformers and peft, imported and idle; the server with its runtime and tokenizer.
TRAINER_BYTES = 900 << 20
SERVER_BYTES = 200 << 20
FLOAT = 4
# Overhead of the allocator, measured in address space, because the trainer's limit counts that.
SLACK = 1.3
# Windows that stay cached: three if they fit into this many bytes, otherwise one.
WINDOWS, WINDOW_BYTES = 3, 100 << 20
DRAFTED_RANK = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShape:
    """What decides how much memory a base takes. `parameters` counts each stored number once; `key_values` is the
    width of the keys of one layer, all heads together."""

    parameters: int
    vocabulary: int
    layers: int
    width: int
    hidden: int
    key_values: int

    def adapters(self, rank: int) -> int:
        """How many numbers adapters of `rank` have on the seven matrices of a layer (fewer if a layer has fewer)."""
        attention = 4 * self.width + 2 * (self.width + self.key_values)
        network = 3 * (self.width + self.hidden)
        return self.layers * rank * (attention + network)

    def training_bytes(self, *, tokens: int, rank: int = DRAFTED_RANK, checkpointing: bool = False) -> int:
        """Bytes of the trainer's process: the base in float32, the adapters four times (themselves, their sum, a step's
        gradients, a copy), and what a forward pass of `tokens` tokens keeps for the backward pass."""
        numbers = self.parameters + 4 * self.adapters(rank)
        return (
            TRAINER_BYTES
            + FLOAT * numbers
            + tokens * self.token_bytes(rank=rank, checkpointing=checkpointing)
        )

    def token_bytes(self, *, rank: int = DRAFTED_RANK, checkpointing: bool = False) -> int:
        """Bytes that one token of a pass keeps: the inputs and products of each layer, and the logits of the whole
        vocabulary four times (twice in the forward pass, twice in the backward pass). With `checkpointing`, products
        are kept for one layer only, and inputs for all."""
        layer = 14 * self.width + 4 * self.key_values + 6 * self.hidden + 14 * rank
        kept = layer + self.layers * self.width if checkpointing else self.layers * layer
        return int(FLOAT * SLACK * (kept + 4 * self.vocabulary))

    def serving_bytes(self, *, context: int) -> int:
        """Bytes of the server: weights in eight bits, the embedding once more for the output, and the cached windows of
        `context` tokens, in float32. For SmolLM2-135M this gives 443 MB; 420 MB were measured."""
        window = 2 * FLOAT * self.layers * self.key_values * context
        kept = max(1, min(WINDOWS, WINDOW_BYTES // max(window, 1)))
        return SERVER_BYTES + self.parameters + self.vocabulary * self.width + kept * window


def require_room(needed: int, *, purpose: str, name: str, available: int | None = None) -> None:
    """Raises ConfigurationError, with both figures, when this machine has less memory than `needed` bytes."""
    there = machine.total() if available is None else available
    if needed > there:
        raise ConfigurationError(
            f"{purpose} the base {name} takes about {in_words(needed)} of memory; this machine has {in_words(there)}",
            hint="use a smaller base, or a machine with more memory",
        )


def in_words(count: int) -> str:
    """`270 MB` or `5.4 GB`, in powers of ten, as machines are sold."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
