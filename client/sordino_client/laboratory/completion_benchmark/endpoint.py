"""An endpoint process on random weights, measured through HTTP as an editor sees it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from sordino_client.completion import asking
from sordino_client.completion.asking import Endpoint
from sordino_client.completion.cache import Precision
from sordino_platform.architecture import SIZES, shapes
from sordino_platform.machine.memory import resident
from sordino_platform.machine.processors import used_seconds
from sordino_platform.release import write_serving_bundle
from sordino_privacy.errors import LinkError, StorageError

LINE_TOKENS = 10
LINES, COLD, BUSY_LINES = 40, 6, 15
KEYSTROKE_CHARACTERS = 3
STRESS_REQUESTS, STRESS_AT_ONCE, STRESS_WARM_UP = 1000, 20, 100
STRESS_RETRY_SECONDS = 0.3
SETTLE_SECONDS = 6.0
IDLE_SECONDS = 5.0
START_SECONDS = 180.0
SPIN = "while True: pass"
SOURCES = (
    "argparse.py",
    "cmd.py",
    "configparser.py",
    "csv.py",
    "dataclasses.py",
    "heapq.py",
    "shlex.py",
    "textwrap.py",
)


def measure_endpoint(size: str, precision: Precision, *, stress: bool) -> dict[str, Any]:
    """Latencies through HTTP, resident memory, and processor time while idle, for one size in one precision."""
    with running(size, precision) as (server, pid):
        text = "\n".join(python_sources().values())
        whole = [timed_line(server, text[: 2000 + KEYSTROKE_CHARACTERS * n]) for n in range(LINES + 5)][5:]
        keys = [
            _asked(server, text[: 3000 + KEYSTROKE_CHARACTERS * n], tokens=1)[0] for n in range(LINES + 2)
        ][2:]
        cold = [_cold(server, text[6000 + 1500 * n :][:1480]) for n in range(COLD)]
        figures: dict[str, Any] = {
            "line10_p50_ms": percentile([line["ms"] for line in whole], 50),
            "line10_p95_ms": percentile([line["ms"] for line in whole], 95),
            "token_ms": percentile([line["token_ms"] for line in whole], 50),
            "keystroke_ms": percentile(keys, 50),
            "cold512_ms": percentile(cold, 50),
        }
        with _cores_busy():
            busy = [
                timed_line(server, text[: 4000 + KEYSTROKE_CHARACTERS * n]) for n in range(BUSY_LINES + 2)
            ]
        figures["line10_cores_busy_p50_ms"] = percentile([line["ms"] for line in busy[2:]], 50)
        if stress:
            figures |= load(server, pid, text)
        if precision == "int8":
            # Its memory while idle: it frees memory within five seconds after the last request.
            time.sleep(SETTLE_SECONDS)
            figures["serving_rss_mb"] = round(resident(pid) / 1e6, 1)
            before = used_seconds(pid)
            time.sleep(IDLE_SECONDS)
            spent = used_seconds(pid) - before
            figures["idle_cpu_percent"] = round(100 * spent / IDLE_SECONDS, 2)
        return figures


def load(server: Endpoint, pid: int, text: str) -> dict[str, Any]:
    """Sends many requests at once, and repeats those told to wait: how they ended, how much the process grew."""

    def one(number: int) -> tuple[str, int]:
        request, refused = {"prompt": text[number : number + 400], "max_tokens": 2}, 0
        while True:
            try:
                server.ask("POST", "/v1/completions", request)
            except LinkError as error:
                if "too many requests" not in error.message:
                    return "error", refused
                refused += 1
                time.sleep(STRESS_RETRY_SECONDS)
            else:
                return "ok", refused

    with concurrent.futures.ThreadPoolExecutor(STRESS_AT_ONCE) as pool:
        list(pool.map(one, range(STRESS_WARM_UP)))
        before = resident(pid) / 1e6
        outcomes, refusals = zip(*pool.map(one, range(STRESS_REQUESTS)), strict=True)
    return {
        **{f"stress_{name}": outcomes.count(name) for name in ("ok", "error")},
        "stress_told_to_wait": sum(refusals),
        "stress_growth_mb": round(resident(pid) / 1e6 - before, 1),
    }


@contextlib.contextmanager
def running(size: str, precision: Precision) -> Iterator[tuple[Endpoint, int]]:
    """An endpoint on random weights of one size, in its own process."""
    with tempfile.TemporaryDirectory(prefix="sordino-bench-") as folder:
        write_random(Path(folder), size)
        with started(Path(folder), "--precision", precision) as found:
            yield found


@contextlib.contextmanager
def started(state: Path, *options: str) -> Iterator[tuple[Endpoint, int]]:
    """An endpoint in its own process, on the model in a state folder. Raises StorageError."""
    command = [sys.executable, "-m", "sordino_client.completion", "--state", str(state), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while (server := asking.find_endpoint(state)) is None or not server.ask("GET", "/v1/models")["data"]:
            if process.poll() is not None or time.monotonic() > deadline:
                raise StorageError("the endpoint did not start", hint="run it by hand to see why")
            time.sleep(0.1)
        yield server, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def write_random(state: Path, size: str) -> None:
    """Writes a release with random weights to a state folder. Norm weights are 1, as at the start of training."""
    config, random = SIZES[size], np.random.default_rng(0)
    weights = {
        name: np.ones(shape, np.float32)
        if "norm" in name
        else random.standard_normal(shape, np.float32) * np.float32(0.05)
        for name, shape in shapes(config).items()
    }
    with as_file(files("sordino_platform") / "base" / "tokenizer.json") as tokenizer:
        write_serving_bundle(state / "serving", config, weights, tokenizer, release=1)


def python_sources() -> dict[str, str]:
    """Real code by file name, from Python's standard library.

    Code of this package would change from version to version, and the figures of two versions could not be compared.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    return {name: (folder / name).read_text("utf-8") for name in SOURCES}


def percentile(values: list[float], share: float) -> float:
    """Rounds to two decimals."""
    return round(float(np.percentile(values, share)), 2)


def _asked(server: Endpoint, prompt: str, *, tokens: int) -> tuple[float, Any]:
    # The endpoint never shows text from random weights: without this it would stop after one token.
    request = {"prompt": prompt, "max_tokens": tokens, "multiline": True, "show": "all"}
    started = time.perf_counter()
    answer = server.ask("POST", "/v1/completions", request)
    return 1000 * (time.perf_counter() - started), answer


def timed_line(server: Endpoint, prompt: str) -> dict[str, float]:
    """One completion of ten tokens: `ms` in total, `token_ms` per generated token (those removed by healing too)."""
    ms, answer = _asked(server, prompt, tokens=LINE_TOKENS)
    said = answer["sordino"]
    count = answer["usage"]["completion_tokens"] + said["healed_tokens"]
    writing = said["seconds"] - said["first_token_seconds"]
    return {"ms": ms, "token_ms": 1000 * writing / max(count - 1, 1)}


def _cold(server: Endpoint, prompt: str) -> float:
    """Milliseconds per 512 tokens to read a prompt that fills the window and shares nothing with earlier prompts."""
    ms, answer = _asked(server, prompt, tokens=1)
    usage = answer["usage"]
    read = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    return float(ms * 512 / max(read, 1))


@contextlib.contextmanager
def _cores_busy() -> Iterator[None]:
    """Keeps every core busy, as a developer's build does."""
    spinners = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
