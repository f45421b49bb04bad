"""Measures a third-party base as an endpoint serves it, and llama.cpp on the same weights. All of it uses one core."""

from __future__ import annotations

import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sordino_client.completion.bases import served
from sordino_client.completion.cache import Indices, KeyValueCache, Network, Precision, causal
from sordino_client.laboratory.completion_benchmark import peers
from sordino_client.laboratory.completion_benchmark.endpoint import (
    KEYSTROKE_CHARACTERS,
    SETTLE_SECONDS,
    percentile,
    python_sources,
    started,
    timed_line,
)
from sordino_platform import bases
from sordino_platform.bases import Base
from sordino_platform.machine.memory import resident
from sordino_platform.machine.processors import load_average, one_processor
from sordino_platform.release import write_base_bundle
from sordino_privacy.errors import UsageError

LINES, COLD, TURNS = 40, 3, 2
COLD_TOKENS = 2000
LOSS_FILES, LOSS_TOKENS = 8, 512
CHUNK = 128


def measure_base(name: str) -> dict[str, Any]:
    """Every figure of one base, milliseconds where a name does not say otherwise. Takes about three minutes.

    Raises UsageError for the base that ships, because `sordino bench completion` measures that one. Raises
    ConfigurationError too.
    """
    base = bases.find_base(name)
    if base.place is None:
        raise UsageError("the base that ships is measured without --base")
    found: dict[str, Any] = {"base": base.name, "load_average": round(load_average(), 2)}
    with one_processor(), tempfile.TemporaryDirectory(prefix="sordino-bench-") as folder:
        state = Path(folder)
        write_base_bundle(state / "serving", base, {}, release=0)
        found |= _lines(state, base)
        found |= _tokens(state, base)
    return found | losses(base)


def _lines(state: Path, base: Base) -> dict[str, Any]:
    """Lines of ten tokens while someone types, a file opened cold, and the memory of the process."""
    text = "\n".join(python_sources().values())
    with started(state) as (server, pid):
        prompts = [text[: 2000 + KEYSTROKE_CHARACTERS * n] for n in range(LINES + 5)]
        times = [timed_line(server, prompt)["ms"] for prompt in prompts][5:]
        length = _characters(base, text)
        cold = [timed_line(server, text[7000 * n :][:length])["ms"] for n in range(1, COLD + 1)]
        time.sleep(SETTLE_SECONDS)  # it frees memory within five seconds after the last request
        return {
            "line10_p50_ms": percentile(times, 50),
            "line10_p95_ms": percentile(times, 95),
            "cold2000_ms": percentile(cold, 50),
            "serving_rss_mb": round(resident(pid) / 1e6, 1),
        }


def _tokens(state: Path, base: Base) -> dict[str, Any]:
    """The time of a token in our model alone and in llama.cpp, in turns, so that a busy machine slows both equally."""
    text = "\n".join(python_sources().values())
    ours: list[float] = []
    theirs: list[float] = []
    found: dict[str, Any] = {}
    for _ in range(TURNS):
        with started(state, "--layers", "model") as (server, _):
            prompts = [text[: 2000 + KEYSTROKE_CHARACTERS * n] for n in range(LINES // 2)]
            ours += [timed_line(server, prompt)["token_ms"] for prompt in prompts][5:]
        if base.gguf is None:
            found["llamacpp_reason"] = "this base is no GGUF file"
            continue
        found |= peers.llamacpp_file(base.gguf)
        theirs += [found["llamacpp_token_ms"]] if "llamacpp_token_ms" in found else []
    token = percentile(ours, 50)
    if theirs:
        found["llamacpp_token_ms"] = percentile(theirs, 50)
    ratio = round(token / found["llamacpp_token_ms"], 3) if theirs else None
    return found | {"token_ms": token, "token_ratio_vs_llamacpp": ratio}


def losses(base: Base) -> dict[str, Any]:
    """Loss in nats per token on Python's standard library, in the precision that is served and in float32."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    readable = [path for path in paths if path.stat().st_size > 8000]
    chosen = readable[:: max(1, len(readable) // LOSS_FILES)][:LOSS_FILES]
    texts = [path.read_text("utf-8")[:4000] for path in chosen]
    precisions: tuple[Precision, ...] = ("int8", "float32")
    found: dict[str, Any] = {}
    for precision in precisions:
        generator = served.generator(base, [], name=base.name, precision=precision)
        read = [
            generator.vocabulary.framed(tokens[:LOSS_TOKENS], (), whole=True)
            for tokens in generator.vocabulary.tokenizer.encode_many(texts)
        ]
        loss, count = mean_loss(generator.network, read)
        if precision == "float32":
            found |= {"float32_loss_nats": loss, "loss_tokens": count}
        else:
            found |= {"quantised_loss_nats": loss, "served_in": generator.network.precision}
        del generator
    return found


def mean_loss(network: Network, texts: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Nats per token over texts, each read from an empty context, and the number of predicted tokens."""
    total, count = 0.0, 0
    for text in texts:
        tokens: Indices = np.array(text[: network.shape.context], np.int64)
        cache = KeyValueCache(network.shape, len(tokens))
        for start in range(0, len(tokens) - 1, CHUNK):
            part = tokens[start : min(start + CHUNK, len(tokens) - 1)]
            at = np.arange(len(part))
            logits = network.read(cache, part, start + at, causal(start, len(part)), at).astype(np.float64)
            logits -= logits.max(axis=-1, keepdims=True)
            right = logits[at, tokens[start + 1 : start + 1 + len(part)]]
            total += float((np.log(np.exp(logits).sum(axis=-1)) - right).sum())
            count += len(part)
    return round(total / max(count, 1), 4), count


def _characters(base: Base, text: str) -> int:
    """The number of characters of the text that make COLD_TOKENS tokens of this base."""
    assert base.place is not None
    (tokens,) = served.tokenizer_of(base).encode_many([text[:20_000]])
    return int(20_000 * COLD_TOKENS / len(tokens))
