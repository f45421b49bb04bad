"""Greedy completion with a key-value cache, in batches of equal length, for the exact-match figures.

The serving engine is a separate implementation (ONNX, in the client). This one uses the trainer's own modules, so it
also checks that engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sordino_platform.model import rotate
from sordino_platform.tokenizer import END, SPECIALS

if TYPE_CHECKING:
    from sordino_platform.evaluation.memory import MemoryAtPlace
    from sordino_platform.model import Block, Decoder

Caches = list[tuple[Tensor, Tensor]]  # keys and values of each layer, (batch, heads, time, head size)


@torch.no_grad()
def complete(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    pieces: Sequence[bytes],
    heal: Sequence[bytes],
    *,
    max_tokens: int,
    finished: Callable[[bytes], bool],
    recalls: Sequence[MemoryAtPlace] | None = None,
) -> list[tuple[bytes, float]]:
    """The most likely continuation of each prompt, as bytes that start with its `heal` bytes, and its probability.

    All prompts have the same length, at most the context less `max_tokens`. `heal[i]` are the bytes removed from the
    end of prompt i, so that a word begun before the cursor is completed with the tokens that the tokenizer would use:
    the first token must agree with these bytes. `recalls` holds one view of a local memory for each prompt. A
    continuation ends at END, when `finished(bytes)` says so, or at `max_tokens`.
    """
    caches: Caches = []
    tokens = torch.tensor(np.asarray(prompts, dtype=np.int64))
    logits = _forward(model, tokens, caches)
    written = [b""] * len(prompts)
    chosen_so_far: list[list[int]] = [[] for _ in prompts]
    certainty = np.zeros(len(prompts))
    done = [False] * len(prompts)
    for step in range(max_tokens):
        for row, recall in enumerate(recalls or ()):
            odds = logits[row].double().softmax(dim=-1).numpy()
            logits[row] = torch.from_numpy(recall.mix(odds, chosen_so_far[row])).log().float()
        logits[:, 1 : len(SPECIALS)] = -torch.inf
        if step == 0:
            for row, begun in enumerate(heal):
                _constrain(logits[row], begun, pieces)
        best, chosen = logits.log_softmax(dim=-1).max(dim=-1)
        for row, token in enumerate(chosen.tolist()):
            if done[row]:
                continue
            certainty[row] += float(best[row])
            if token == END:
                done[row] = True
                continue
            written[row] += pieces[token]
            chosen_so_far[row].append(token)
            done[row] = finished(written[row])
        if all(done) or step + 1 == max_tokens:
            break
        logits = _forward(model, chosen[:, None], caches)
    return list(zip(written, np.exp(certainty).tolist(), strict=True))


def _constrain(logits: Tensor, begun: bytes, pieces: Sequence[bytes]) -> None:
    """Forbids every token that does not begin with the removed bytes."""
    if begun:
        forbidden = [i for i, piece in enumerate(pieces) if not piece.startswith(begun)]
        if len(forbidden) < len(pieces):
            logits[forbidden] = -torch.inf


def _forward(model: Decoder, tokens: Tensor, caches: Caches) -> Tensor:
    """Logits after the last of `tokens`, shape `(batch, vocabulary)`; extends the caches, one pair per layer."""
    past = caches[0][0].shape[2] if caches else 0
    cos, sin = model.cos[past : past + tokens.shape[1]], model.sin[past : past + tokens.shape[1]]
    x = model.norm_in(model.embed(tokens))
    for layer, block in enumerate(model.blocks):
        x = _block(block, x, cos, sin, caches, layer)  # type: ignore[arg-type]
    return model.embed.logits(model.norm_out(x[:, -1]))


def _block(block: Block, x: Tensor, cos: Tensor, sin: Tensor, caches: Caches, layer: int) -> Tensor:
    batch, time, width = x.shape
    shape = (batch, time, 3, block.heads, width // block.heads)
    q, k, v = block.query_key_value(block.norm_attention(x)).view(shape).permute(2, 0, 3, 1, 4)
    size = (q.shape[-1],)
    q = rotate(F.rms_norm(q, size, eps=1e-6), cos, sin)
    k = rotate(F.rms_norm(k, size, eps=1e-6), cos, sin)
    if layer < len(caches):
        k, v = torch.cat((caches[layer][0], k), dim=2), torch.cat((caches[layer][1], v), dim=2)
        caches[layer] = (k, v)
    else:
        caches.append((k, v))
    # After the prompt there is one query at a time, which may attend to everything.
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=time > 1)
    x = x + block.attention_out(mixed.transpose(1, 2).reshape(batch, time, width))
    network: Tensor = block.contract(F.relu(block.expand(block.norm_network(x))).square())
    return x + network
