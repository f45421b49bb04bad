"""A small model with random weights and a tokenizer trained on a pinned package's sources."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import starlette

from sordino_client.completion import bundle
from sordino_client.completion.asking import Endpoint
from sordino_platform.architecture import ModelConfig, shapes
from sordino_platform.release import write_serving_bundle
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import LinkError

CONFIG = ModelConfig(vocabulary=700, context=160, layers=2, heads=2, width=32, hidden=64)
# Not our own sources: a tokenizer that changes with each change of the package flips what random weights write.
SOURCES = "".join(path.read_text() for path in sorted(Path(starlette.__file__).parent.glob("*.py")))


@cache
def small_tokenizer() -> Tokenizer:
    return Tokenizer.train([SOURCES], vocabulary=CONFIG.vocabulary)


def random_weights(config: ModelConfig, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return {n: (random.standard_normal(s) * 0.35).astype(np.float32) for n, s in shapes(config).items()}


@pytest.fixture(scope="session")
def sources() -> str:
    """Some source code, as a developer has it."""
    return SOURCES


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a release into a serving folder."""

    tokenizer = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.write_text(small_tokenizer().to_json())

    def write(folder: Path, number: int = 1) -> Path:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return write_serving_bundle(folder, CONFIG, random_weights(CONFIG, number), tokenizer, release=number)

    return write


@dataclass(frozen=True, slots=True)
class Running:
    """An endpoint in its own process."""

    state: Path
    process: subprocess.Popen[bytes]
    endpoint: Endpoint
    log: Path


def settled(endpoint: Endpoint) -> bool:
    """It listens, and its model is loaded, refused or missing: no longer on the way."""
    try:
        endpoint.ask("GET", "/health")
    except LinkError as error:
        return not any(one in error.message for one in ("does not answer", "being loaded"))
    return True


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., Running]]:
    """Starts endpoints that show whatever is written, unless told otherwise; they end with the session."""
    started: list[Running] = []

    def begin(state: Path, *arguments: str) -> Running:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        log, program = state / "log.txt", [sys.executable, "-m", "sordino_client.completion"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*program, "--state", str(state), "--show", "all", *arguments],
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        found = state / "completion.json"
        while not found.exists():
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        document = json.loads(found.read_text())
        token = (state / "token").read_text().strip()
        endpoint = Endpoint(host="127.0.0.1", port=document["port"], token=token)
        while not settled(endpoint):
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        running = Running(state, process, endpoint, log)
        started.append(running)
        return running

    yield begin
    for running in started:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(20) == 0, running.log.read_text()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Running]) -> Running:
    """An endpoint with the model that ships."""
    state, base = tmp_path_factory.mktemp("shipped"), bundle.shipped()
    (state / "serving").mkdir()
    write_serving_bundle(state / "serving", base.config, base.weights, base.tokenizer, release=1)
    return start(state)
