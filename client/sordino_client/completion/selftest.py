"""Decides whether a network may serve: before it answers anyone it must give the same results as the NumPy reference,
on this machine.

There are two questions. Is it right? In float32 its logits must equal the reference's up to rounding. Is it good
enough? Weights in integers change every prediction a little, and how much depends on the model; so the change is
measured on the model at hand, as the Kullback-Leibler divergence of its next-token distributions from the exact ones
over a piece of real code. On the shipped base eight bits cost 0.0004 nats a token, and the loss on code differs by 0.02
% (docs/completion.md).
"""

from __future__ import annotations

from importlib.resources import files
from itertools import pairwise

import numpy as np

from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import Indices, KeyValueCache, Network, causal
from sordino_client.completion.vocabulary import EngineTokenizer
from sordino_privacy.errors import StorageError

SAMPLE_TOKENS = 160
TAIL = 24
TOLERANCE = 1e-2
# Nats a token; five times what eight bits cost the shipped base, and far below what a reader could notice.
MAX_DIVERGENCE = 2e-3


def sample(tokenizer: EngineTokenizer, *, context: int) -> Indices:
    """Some real code as tokens, at most SAMPLE_TOKENS and no more than the context: this package's own."""
    text = (files("sordino_client.completion") / "stopping.py").read_text("utf-8")
    (tokens,) = tokenizer.encode_many([text])
    return np.array(tokens[: min(SAMPLE_TOKENS, context)], np.int64)


def self_test(network: Network, reference: Network, tokens: Indices) -> None:
    """Both must give the same logits. Raises StorageError."""
    expected, found = _logits(reference, tokens), _read_as_served(network, tokens)
    if not np.isfinite(expected).all() or not np.allclose(found, expected, atol=TOLERANCE, rtol=1e-3):
        raise StorageError(
            "the model fails its self-test", hint="keep the release before it, and report this one"
        )


def divergence(network: Network, reference: Network, tokens: Indices) -> float:
    """How far the network's predictions are from the reference's, nats a token; infinite where either is not finite."""
    return divergence_from(network, _logits(reference, tokens), tokens)


def divergence_from(network: Network, expected: Array, tokens: Indices) -> float:
    """The same, from logits `(len(tokens), vocabulary)` that are known already."""
    found = _read_as_served(network, tokens)
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    exact, near = _log_probabilities(expected), _log_probabilities(found)
    return float((np.exp(exact) * (exact - near)).sum(axis=-1).mean())


def _logits(network: Network, tokens: Indices) -> Array:
    count = len(tokens)
    every = np.arange(count)
    return network.read(KeyValueCache(network.shape, count), tokens, every, causal(0, count), every)


def _read_as_served(network: Network, tokens: Indices) -> Array:
    """The logits when the text is read as an editor causes it: a prompt in two pieces, then token by token."""
    cache = KeyValueCache(network.shape, len(tokens))
    head = max(len(tokens) - TAIL, 1)
    edges = [0, head // 2, *range(head, len(tokens) + 1)]
    found = []
    for start, stop in pairwise(edges):
        if part := stop - start:
            every = np.arange(start, stop)
            found.append(network.read(cache, tokens[start:stop], every, causal(start, part), np.arange(part)))
    return np.concatenate(found)


def _log_probabilities(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
