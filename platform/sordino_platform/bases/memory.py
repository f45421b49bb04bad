"""How much memory a base takes, said before anything of it is loaded.

The figures are of this project's own trainer and server, and are kept honest by a test that trains a small base and
measures (docs/bases.md has the measured ones of SmolLM2 beside them).
"""

from __future__ import annotations

from dataclasses import dataclass

from sordino_platform.machine import memory as machine
from sordino_privacy.errors import ConfigurationError

# torch, transformers and peft, imported and idle; the server with its runtime and tokenizer.
TRAINER_BYTES = 900 << 20
SERVER_BYTES = 200 << 20
FLOAT = 4
# What the allocator holds beyond what is counted: measured as addresses, which the trainer's limit counts.
SLACK = 1.3
# Windows that stay read, three as far as so many bytes hold them, one in any case.
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
        """Numbers in adapters of `rank` on the seven products of a layer (fewer where a layer has fewer)."""
        attention = 4 * self.width + 2 * (self.width + self.key_values)
        network = 3 * (self.width + self.hidden)
        return self.layers * rank * (attention + network)

    def training_bytes(self, *, tokens: int, rank: int = DRAFTED_RANK, checkpointing: bool = False) -> int:
        """Of the trainer's process: the base in float32, the adapters four times (themselves, their sum, a step's
        gradients, a copy), and what a pass of `tokens` tokens keeps for its way back."""
        numbers = self.parameters + 4 * self.adapters(rank)
        return (
            TRAINER_BYTES
            + FLOAT * numbers
            + tokens * self.token_bytes(rank=rank, checkpointing=checkpointing)
        )

    def token_bytes(self, *, rank: int = DRAFTED_RANK, checkpointing: bool = False) -> int:
        """What one token of a pass keeps: of each layer its inputs and products (with `checkpointing` of one layer, and
        the inputs of the others), and the scores of every word four times (twice on the way there, twice back)."""
        layer = 14 * self.width + 4 * self.key_values + 6 * self.hidden + 14 * rank
        kept = layer + self.layers * self.width if checkpointing else self.layers * layer
        return int(FLOAT * SLACK * (kept + 4 * self.vocabulary))

    def serving_bytes(self, *, context: int) -> int:
        """Of the server: weights in eight bits, the embedding once more for the output, and the windows of `context`
        tokens that stay read, in float32. 443 MB of SmolLM2-135M, where 420 MB were measured."""
        window = 2 * FLOAT * self.layers * self.key_values * context
        kept = max(1, min(WINDOWS, WINDOW_BYTES // max(window, 1)))
        return SERVER_BYTES + self.parameters + self.vocabulary * self.width + kept * window


def require_room(needed: int, *, purpose: str, name: str, available: int | None = None) -> None:
    """Raises ConfigurationError, with both figures, where this machine has less memory than `needed` bytes."""
    there = machine.total() if available is None else available
    if needed > there:
        raise ConfigurationError(
            f"{purpose} the base {name} takes about {in_words(needed)} of memory; this machine has {in_words(there)}",
            hint="use a smaller base, or a machine with more memory",
        )


def in_words(count: int) -> str:
    """`270 MB` or `5.4 GB`, in powers of ten, as machines are sold."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
