"""The candidates that are compared, and what one token costs each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sordino_platform.architecture import SIZES, ModelConfig
from sordino_platform.tokenizer import PIECES

# Regular expressions that cut text into pieces: no token spans two pieces. In all but GPT-2's a newline starts a token.
PRE_TOKENIZATIONS = {
    "shipped": PIECES,
    # The case humps of a name stay together: getUserName is one piece.
    "whole-names": r"\n[ \t]*|[^\s\p{L}\p{N}]?\p{L}+| ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|[^\S\n]+",
    # Punctuation is not joined to the word after it: the dot of `.get` is a piece of its own.
    "marks-apart": (
        r"\n[ \t]*| ?\p{Lu}?\p{Ll}+| ?\p{Lu}+(?!\p{Ll})| ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|[^\S\n]+"
    ),
    # Radford et al. 2019, encoder.py: words, numbers and punctuation, each with one space before it; runs of spaces.
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseCandidate:
    """One way to make the base: a name of PRE_TOKENIZATIONS, a number of tokens, a name of SIZES, a seed."""

    pieces: str = "shipped"
    vocabulary: int = 4096
    size: str = "3.4m"
    repeat: int = 0

    @property
    def name(self) -> str:
        again = f"-again{self.repeat}" if self.repeat else ""
        return f"{self.size}-{self.vocabulary}-{self.pieces}{again}"

    def config(self, context: int) -> ModelConfig:
        return replace(SIZES[self.size], vocabulary=self.vocabulary, context=context)


REFERENCE = BaseCandidate()
CANDIDATES = (
    REFERENCE,
    *(BaseCandidate(vocabulary=size) for size in (2048, 8192, 16384)),
    *(BaseCandidate(pieces=pieces) for pieces in PRE_TOKENIZATIONS if pieces != "shipped"),
    BaseCandidate(repeat=1),
    BaseCandidate(size="2.3m"),
    BaseCandidate(size="22m"),
)


def multiply_adds(config: ModelConfig) -> int:
    """Multiply-adds of one token's forward pass in a full context.

    Each weight counts once, and attention over half of the context.

    A training step costs three times as much per token (Kaplan et al. 2020, section 2.1).
    """
    block = config.width * (4 * config.width + 2 * config.hidden)
    attention = config.context * config.width  # two products: width times, on average, half of the context
    return config.layers * (block + attention) + config.vocabulary * config.width


def tokens_for(candidate: BaseCandidate, reference_tokens: int, context: int) -> int:
    """How many tokens the candidate can train on with the compute that the reference spends on `reference_tokens`."""
    budget = reference_tokens * multiply_adds(REFERENCE.config(context))
    return round(budget / multiply_adds(candidate.config(context)))
