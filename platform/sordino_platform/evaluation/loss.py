"""Per-token losses of a model on whole documents, which may be longer than its context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from sordino_platform.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

# Rows per batch for a vocabulary as small as ours. A larger vocabulary gets fewer, because each token keeps a logit for
# every word.
_BATCH, _BATCH_VOCABULARY = 8, 4096

# (all tokens of the document before the position, the model's next-token probabilities) -> the probabilities to use.
Mix = Callable[[Sequence[int], npt.NDArray[np.float64]], npt.NDArray[np.float64]]


class Scored(Protocol):
    """A model that can be measured: our own, or a base with adapters."""

    @property
    def config(self) -> Architecture:
        """Its context, its vocabulary, and the token that stands before a text."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """Tokens `(batch, time)` to logits."""


class Encodes(Protocol):
    """A tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A model's scores for one document's tokens, in order; each array has one entry per token."""

    nats: npt.NDArray[np.float32]
    correct: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.float32]


def score(
    model: Scored, documents: Sequence[Sequence[int]], *, overlap: float = 0.5, mix: Mix | None = None
) -> list[Scores]:
    """Scores every token of each document, given the tokens before it in the document.

    A document longer than the context is read in windows that overlap by the share `overlap` of the context. A token is
    scored in the first window that holds it, so it sees at least that share of the context. A document's first tokens
    see all that there is before them; the very first sees the end of a document. `mix` changes the probabilities of
    every token before they are scored (a local memory). Deterministic on one machine.
    """
    import torch
    import torch.nn.functional as F

    context, end = model.config.context, model.config.end
    batch = max(1, _BATCH * _BATCH_VOCABULARY // model.config.vocabulary)
    windows = [
        span for number, ids in enumerate(documents) for span in spans(number, len(ids), context, overlap)
    ]
    # Windows of similar length share a batch, so that little is computed on padding.
    windows.sort(key=lambda span: span[2] - span[1])
    nats = [np.zeros(len(ids), dtype=np.float32) for ids in documents]
    correct = [np.zeros(len(ids), dtype=np.bool_) for ids in documents]
    confidence = [np.zeros(len(ids), dtype=np.float32) for ids in documents]
    with torch.no_grad():
        for at in range(0, len(windows), batch):
            group = windows[at : at + batch]
            inputs = np.full(
                (len(group), max(stop - start for _, start, stop, _ in group)), end, dtype=np.int64
            )
            targets = inputs.copy()
            for row, (number, start, stop, _) in enumerate(group):
                ids = np.asarray(documents[number][start:stop], dtype=np.int64)
                inputs[row, 0] = documents[number][start - 1] if start else end
                inputs[row, 1 : len(ids)] = ids[:-1]
                targets[row, : len(ids)] = ids
            logits = model(torch.from_numpy(inputs)).float()
            goal = torch.from_numpy(targets)
            loss = F.cross_entropy(logits.flatten(0, 1), goal.flatten(), reduction="none").view(goal.shape)
            best = logits.max(dim=-1)
            hits = (best.indices == goal).numpy()
            sure = (best.values - logits.logsumexp(dim=-1)).exp().numpy()
            for row, (number, start, stop, scored) in enumerate(group):
                kept = slice(scored - start, stop - start)
                nats[number][scored:stop] = loss[row, kept].numpy()
                correct[number][scored:stop] = hits[row, kept]
                confidence[number][scored:stop] = sure[row, kept]
                if mix is None:
                    continue
                for at in range(scored, stop):
                    odds = logits[row, at - start].double().softmax(dim=-1).numpy()
                    odds = mix(documents[number][:at], odds)
                    nats[number][at] = -np.log(odds[documents[number][at]])
                    correct[number][at] = odds.argmax() == documents[number][at]
                    confidence[number][at] = odds.max()
    return [
        Scores(nats=n, correct=c, confidence=p) for n, c, p in zip(nats, correct, confidence, strict=True)
    ]


def heldout_loss(model: Scored, tokenizer: Encodes, texts: Sequence[str], *, max_tokens: int) -> float:
    """Mean loss in nats per token over the first tokens of each of `texts`, without the document ends.

    At most `max_tokens` are scored in all, and each text has the same maximum, so that no text decides the figure
    alone. Deterministic and quick (some seconds for 20,000 tokens at 3.4M parameters); NaN when there is nothing to
    score.
    """
    most = max(1, max_tokens // max(1, len(texts)))
    documents = [ids for ids in (tokenizer.encode(text)[:most] for text in texts[:max_tokens]) if ids]
    if not documents:
        return float("nan")
    return float(np.concatenate([s.nats for s in score(model, documents, overlap=0.0)]).mean())


def spans(number: int, length: int, context: int, overlap: float) -> Iterator[tuple[int, int, int, int]]:
    """`(document, start, stop, first scored)` of each window: targets `start:stop`; those from `first scored` on are
    new."""
    stride = max(1, int(context * (1 - overlap)))
    scored = 0
    while scored < length:
        stop = min(length, max(scored + stride, context))
        yield number, max(0, stop - context), stop, scored
        scored = stop
