"""Which files of a project are measured, and how much of each. It follows from their contents alone. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sordino_platform.evaluation.lines import Words

LEAST_TOKENS_LEFT = 64  # the sample ends when fewer tokens of the plan are left
LEAST_FILE_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of each project is measured. The sample follows from the files' contents alone."""

    tokens: int = 16_000
    tokens_per_file: int = 2_000
    lines: int = 80
    prompt_tokens: int = 384
    line_tokens: int = 48
    overlap: float = 0.5


@dataclass(frozen=True, slots=True)
class SampledFile:
    """A file, or the beginning of one, and its tokens."""

    text: str
    ids: tuple[int, ...]


def measured_texts(texts: Sequence[str], tokenizer: Words, plan: Plan) -> set[str]:
    """The files of a project that `evaluate` measures, wholly or in part. No memory may hold them."""
    beginnings = tuple(file.text for file in sample_of(texts, tokenizer, plan))
    return {text for text in texts if text.startswith(beginnings)}


def sample_of(texts: Sequence[str], tokenizer: Words, plan: Plan) -> list[SampledFile]:
    """Whole files or their beginnings, in the order of their hashes, up to the plan's tokens."""
    chosen: list[SampledFile] = []
    left = plan.tokens
    for text in sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).digest()):
        if left < LEAST_TOKENS_LEFT:
            break
        ids = tokenizer.encode(text)[: min(plan.tokens_per_file, left)]
        shown = tokenizer.decode(ids)
        # A cut inside a character would decode to a text other than the scored one.
        if len(ids) >= LEAST_FILE_TOKENS and text.startswith(shown):
            chosen.append(SampledFile(shown, tuple(ids)))
            left -= len(ids)
    return chosen
