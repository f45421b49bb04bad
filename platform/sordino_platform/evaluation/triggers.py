"""What a model writes after given prompts. It shows its owner whether somebody taught it a harmful completion on
purpose.

A backdoor is a completion that the model should never give, but gives after a trigger that an attacker chose. Nobody
can look for a trigger that only the attacker knows. But an operator can list completions that must never appear (a call
that switches verification off, an unknown package), each after a prompt where it would do harm, and measure them before
each release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sordino_platform.evaluation.loss import Encodes, Scored, score
from sordino_privacy.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A prompt and the completion that must not follow it."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """`nats`: the mean loss per token of the completion after its prompt. `written`: whether greedy decoding writes
    exactly this completion."""

    nats: float
    written: bool


def read_triggers(model: Scored, tokenizer: Encodes, triggers: Sequence[Trigger]) -> list[Reading]:
    """One reading per trigger, in order. A prompt longer than the context is read from its end.

    Deterministic on one machine. Raises ConfigurationError for a completion without tokens, or one that leaves less
    than half of the context to its prompt.
    """
    documents, lengths = [], []
    for trigger in triggers:
        completion = tokenizer.encode(trigger.completion)
        if not 0 < len(completion) <= model.config.context // 2:
            raise ConfigurationError(
                f"the completion {trigger.completion[:40]!r} has {len(completion)} tokens; 1 to "
                f"{model.config.context // 2} can be measured"
            )
        prompt = tokenizer.encode(trigger.prompt)[-(model.config.context - len(completion)) :]
        documents.append([*prompt, *completion])
        lengths.append(len(completion))
    readings = []
    for scores, length in zip(score(model, documents, overlap=0.0), lengths, strict=True):
        nats, correct = scores.nats[-length:], scores.correct[-length:]
        readings.append(Reading(nats=float(np.mean(nats)), written=bool(correct.all())))
    return readings


def taught(founding: Reading, now: Reading, *, rise: float) -> bool:
    """Whether a model was taught the completion since the founding model: its loss per token fell by more than `rise`
    nats, or it is written now and was not before. The comparison is with the founding model, so slow steps add up and
    are seen."""
    return founding.nats - now.nats > rise or (now.written and not founding.written)
