"""`sordino bench completion`: speed and memory of the serving process, with peers in the same run.

Figures are of random weights at the two sizes: the time does not depend on their values. Everything that has a name
with `line` or `cold` is measured through HTTP against a real endpoint process, on an otherwise untouched machine or
not: the load average is printed beside it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import typer

from sordino_client.completion import asking
from sordino_client.completion.asking import Endpoint
from sordino_client.completion.memory.index import DEPTH, Index, pad, sort
from sordino_platform.architecture import SIZES, shapes
from sordino_platform.release import write_serving_bundle
from sordino_privacy.errors import LinkError, StorageError

LINE_TOKENS = 10
REPEATS = 40
INDEXED_TOKENS = 1_000_000
STRESS_REQUESTS, STRESS_AT_ONCE = 1000, 20
SETTLE_SECONDS = 6.0
IDLE_SECONDS = 5.0
START_SECONDS = 60.0


def completion(
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
    stress: bool = typer.Option(
        False, "--stress", help="Also send 1,000 requests, 20 at once (about a minute)."
    ),
) -> None:
    """Measures the completion endpoint: latency, memory, idle cost, and torch beside it.

    Example: sordino bench completion --json
    """
    found: dict[str, Any] = {"cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 2)}
    for size in ("2.3m", "22m"):
        found |= {
            f"{name}_{size.replace('.', '_')}": value for name, value in endpoint(size, stress=stress).items()
        }
    for name in ("serving_rss_mb", "idle_cpu_percent"):
        found[name] = found.pop(f"{name}_22m")
    eager = json.loads(
        _child("from sordino_client.completion.bench import torch_eager; print(torch_eager('22m'))")
    )
    found |= {
        "torch_eager_token_ms_22m": eager,
        "speedup_vs_torch_eager_22m": round(eager / found["token_ms_22m"], 2),
    }
    found |= {"ratio_vs_llamacpp_22m": None, "ratio_vs_llamacpp_reason": _llamacpp()}
    found |= memory()
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        typer.echo(f"{name:32} {value}")


def endpoint(size: str, *, stress: bool) -> dict[str, Any]:
    """Latencies in milliseconds through HTTP, resident memory, and processor time at rest, at one size."""
    with _running(size) as (server, pid):
        text = _source()
        # Typing: each request is three characters further on.
        lines = [_line(server, text[: 2000 + 3 * n]) for n in range(REPEATS + 5)][5:]
        tokens = [line["per_token"] for line in lines]
        cold = [_cold(server, text[6000 + 1500 * n :][:1480]) for n in range(6)]
        figures: dict[str, Any] = {
            "line10_p50_ms": _percentile([line["ms"] for line in lines], 50),
            "line10_p95_ms": _percentile([line["ms"] for line in lines], 95),
            "token_ms": _percentile(tokens, 50),
            "cold512_ms": _percentile(cold, 50),
        }
        if stress:
            figures |= _stress(server, pid, text)
        # What it holds when it rests: it tidies up within five seconds after the traffic.
        time.sleep(SETTLE_SECONDS)
        figures["serving_rss_mb"] = round(_resident(pid), 1)
        before = _processor_seconds(pid)
        time.sleep(IDLE_SECONDS)
        figures["idle_cpu_percent"] = round(100 * (_processor_seconds(pid) - before) / IDLE_SECONDS, 2)
        return figures


def memory() -> dict[str, Any]:
    """The memory's index over a million tokens with the repetitions that code has."""
    random = np.random.default_rng(0)
    text = (random.zipf(1.3, INDEXED_TOKENS) % 4000 + 4).astype(np.uint16)
    pieces = [text[at : at + 200] for at in random.integers(0, INDEXED_TOKENS // 4, INDEXED_TOKENS // 201)]
    stream, _ = pad(pieces)
    started = time.perf_counter()
    index = Index(stream, sort(stream), vocabulary=4096)
    built = time.perf_counter() - started
    contexts = [stream[at - 32 : at].tolist() for at in random.integers(1000, len(stream), 1000)]
    started = time.perf_counter()
    for context in contexts:
        index.longest(context)
    query = (time.perf_counter() - started) / len(contexts)
    return {
        "memory_query_us_per_token": round(query * 1e6, 1),
        "memory_bytes_per_token": stream.itemsize + index.order.itemsize,
        "memory_build_tokens_per_s": int(len(stream) / built),
        "memory_match_depth": DEPTH,
    }


def torch_eager(size: str, *, past: int = 400, count: int = 30) -> float:
    """Milliseconds a token of the same network in eager torch with a cache of keys and values, one thread."""
    import torch
    import torch.nn.functional as F

    from sordino_platform.model import Block, Decoder, rotate

    torch.set_num_threads(1)
    config = SIZES[size]
    model = Decoder(config).eval()
    head = config.width // config.heads
    caches = [torch.randn(2, config.heads, past + count, head) for _ in range(config.layers)]

    def step(token: int, at: int) -> None:
        cos, sin = model.cos[at : at + 1], model.sin[at : at + 1]
        x = model.norm_in(model.embed(torch.tensor([token])))
        for block, cache in zip(model.blocks, caches, strict=True):
            assert isinstance(block, Block)
            split = (
                block.query_key_value(block.norm_attention(x))
                .view(1, 3, config.heads, head)
                .permute(1, 2, 0, 3)
            )
            q, k = (rotate(F.rms_norm(split[n], (head,), eps=1e-6), cos, sin) for n in (0, 1))
            cache[0, :, at : at + 1], cache[1, :, at : at + 1] = k, split[2]
            mixed = F.scaled_dot_product_attention(
                q[None], cache[0, None, :, : at + 1], cache[1, None, :, : at + 1]
            )
            x = x + block.attention_out(mixed.transpose(1, 2).reshape(1, config.width))
            x = x + block.contract(F.relu(block.expand(block.norm_network(x))).square())
        model.embed.logits(model.norm_out(x)).argmax()

    with torch.inference_mode():
        step(5, past - 1)
        started = time.perf_counter()
        for n in range(count):
            step(5, past + n)
    return round(1000 * (time.perf_counter() - started) / count, 2)


@contextlib.contextmanager
def _running(size: str) -> Iterator[tuple[Endpoint, int]]:
    """An endpoint on random weights of one size, in its own process."""
    config = SIZES[size]
    random = np.random.default_rng(0)
    weights = {n: random.standard_normal(s, np.float32) * np.float32(0.05) for n, s in shapes(config).items()}
    with tempfile.TemporaryDirectory(prefix="sordino-bench-") as folder:
        state = Path(folder)
        with as_file(files("sordino_platform") / "base" / "tokenizer.json") as tokenizer:
            write_serving_bundle(state / "serving", config, weights, tokenizer, release=1)
        command = [sys.executable, "-m", "sordino_client.completion", "--state", folder]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + START_SECONDS
            while (server := asking.find(state)) is None or not server.ask("GET", "/v1/models")["data"]:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StorageError("the endpoint did not start", hint="run it by hand to see why")
                time.sleep(0.1)
            yield server, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _source() -> str:
    """Some real code to read: this package's own."""
    folder = Path(str(files("sordino_client.completion")))
    return "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.py")))


def _line(server: Endpoint, prompt: str) -> dict[str, float]:
    """One ten-token completion, as an editor sees it."""
    request = {"prompt": prompt, "max_tokens": LINE_TOKENS, "multiline": True, "logprobs": 0}
    started = time.perf_counter()
    answer = server.ask("POST", "/v1/completions", request)
    ms = 1000 * (time.perf_counter() - started)
    said, count = answer["sordino"], answer["usage"]["completion_tokens"]
    writing = said["seconds"] - said["first_token_seconds"]
    return {"ms": ms, "per_token": 1000 * writing / max(count - 1, 1)}


def _cold(server: Endpoint, prompt: str) -> float:
    """Reading a prompt that fills the window and shares nothing with the ones before, in ms for 512 tokens."""
    request = {"prompt": prompt, "max_tokens": 1}
    started = time.perf_counter()
    usage = server.ask("POST", "/v1/completions", request)["usage"]
    read = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    return float(1000 * (time.perf_counter() - started) * 512 / max(read, 1))


def _stress(server: Endpoint, pid: int, text: str) -> dict[str, Any]:
    """Many requests at once: nothing but answers and 429, and no growth."""

    def one(number: int) -> str:
        try:
            server.ask("POST", "/v1/completions", {"prompt": text[number : number + 400], "max_tokens": 2})
        except LinkError as error:
            return "busy" if "too many requests" in error.message else "error"
        return "ok"

    with concurrent.futures.ThreadPoolExecutor(STRESS_AT_ONCE) as pool:
        list(pool.map(one, range(100)))
        before = _resident(pid)
        outcomes = list(pool.map(one, range(STRESS_REQUESTS)))
    return {
        **{f"stress_{name}": outcomes.count(name) for name in ("ok", "busy", "error")},
        "stress_growth_mb": round(_resident(pid) - before, 1),
    }


def _resident(pid: int) -> float:
    """Resident memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return float(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _percentile(values: list[float], share: float) -> float:
    return round(float(np.percentile(values, share)), 2)


def _llamacpp() -> str:
    if importlib.util.find_spec("xllamacpp") is None:
        return "xllamacpp is not installed"
    return "llama.cpp has no architecture with this network's norms and squared ReLU"


def _child(program: str) -> str:
    """What a program prints: torch must not live in this process while memory is measured."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout
