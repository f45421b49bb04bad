"""Measures the effect of 8-bit weights on the model that ships, on code that every Python has: its standard library."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

from sordino_client.completion import bundle
from sordino_client.completion.bundle import Array
from sordino_client.completion.cache import KeyValueCache, causal
from sordino_client.completion.runtime import RuntimeNetwork, own_network
from sordino_platform.tokenizer import Tokenizer

FILES = 24


def compare() -> dict[str, Any]:
    """Loss (nats per token) and next-token accuracy in both precisions, and how often the most likely tokens agree."""
    shipped = bundle.shipped()
    tokenizer = Tokenizer.load(shipped.tokenizer)
    exact = own_network(shipped.config, shipped.weights, "float32")
    rounded = own_network(shipped.config, shipped.weights, "int8")
    losses: list[tuple[float, float]] = []
    right: list[tuple[bool, bool]] = []
    same: list[bool] = []
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    readable = [path for path in paths if path.stat().st_size > 8000]
    for path in readable[:: max(1, len(readable) // FILES)][:FILES]:
        tokens = np.array(
            tokenizer.encode(path.read_text("utf-8")[:8000])[: shipped.config.context], np.int64
        )
        pair = [_log_probabilities(network, tokens) for network in (exact, rounded)]
        follows = tokens[1:]
        at = np.arange(len(follows))
        losses += zip(*(-one[at, follows] for one in pair), strict=True)
        best = [one.argmax(axis=-1) for one in pair]
        right += zip(*(one == follows for one in best), strict=True)
        same += (best[0] == best[1]).tolist()
    loss, accuracy = np.mean(losses, axis=0), np.mean(right, axis=0)
    return {
        "int8_compared_tokens": len(same),
        "int8_loss_nats": round(float(loss[1]), 4),
        "float32_loss_nats": round(float(loss[0]), 4),
        "int8_accuracy": round(float(accuracy[1]), 4),
        "float32_accuracy": round(float(accuracy[0]), 4),
        "int8_same_likeliest_token": round(float(np.mean(same)), 4),
    }


def _log_probabilities(network: RuntimeNetwork, tokens: np.ndarray) -> Array:
    count = len(tokens)
    every = np.arange(count)
    cache = KeyValueCache(network.shape, count)
    logits = network.read(cache, tokens, every, causal(0, count), every)[:-1].astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    result: Array = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return result
