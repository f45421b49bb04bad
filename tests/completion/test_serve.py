"""`sordino serve`: completions for one person in one command, and what becomes of them when that person joins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sordino_client.completion import asking, bundle, solo
from sordino_client.completion.asking import Endpoint
from sordino_client.completion.reasons import EXPLANATION
from sordino_client.settings import FILE
from sordino_platform.release import write_serving_bundle
from sordino_privacy.errors import ConfigurationError, StorageError, UsageError

COMMAND = (sys.executable, "-m", "sordino_platform.cli", "serve", "--json")


class Serving:
    """A running `sordino serve`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*COMMAND, "--folder", str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.states: list[dict[str, str]] = []

    def until(self, name: str, text: str = "") -> str:
        """The text of the first state of this name that holds `text`, waited for where it has not come yet."""
        assert self.process.stdout is not None
        for state in self.states:
            if state["state"] == name and text in state["text"]:
                return state["text"]
        while line := self.process.stdout.readline():
            state = json.loads(line)
            self.states.append(state)
            if state["state"] == name and text in state["text"]:
                return str(state["text"])
        assert self.process.stderr is not None
        raise AssertionError(self.process.stderr.read())

    def endpoint(self) -> Endpoint:
        found = asking.find_endpoint(self.folder / "completion")
        assert found is not None
        return found

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    text = "".join(f"    zebra_{n} = quokka(wombat_{n})\n    okapi_{n}.numbat()\n" for n in range(200))
    (folder / "animals.py").write_text("def animals():\n" + text)
    return folder


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []

    def begin(*arguments: str) -> Serving:
        started.append(Serving(tmp_path / "home", *arguments))
        return started[-1]

    yield begin
    for one in started:
        one.end()


def segments(folder: Path) -> list[str]:
    found = json.loads((folder / "completion/memory/memory.json").read_text())["segments"]
    return [segment["name"] for segment in found]


def test_one_command_gives_completions_from_the_base_and_the_memory(
    serve: Callable[..., Serving], repository: Path
) -> None:
    running = serve("--repo", str(repository))
    running.until("memory", "1 files")
    running.until("engine", "sordino-base answers")
    answer = running.endpoint().ask("POST", "/v1/completions", {"prompt": "    wombat_1)\n    okapi_1."})
    assert answer["choices"][0]["text"] == "numbat()"
    assert answer["model"] == "sordino-base"
    assert running.end() == 0


def test_what_was_remembered_and_counted_is_there_at_the_next_start_and_for_the_agent(
    serve: Callable[..., Serving], repository: Path
) -> None:
    running = serve("--repo", str(repository))
    running.until("memory", "1 files")
    running.until("engine", "answers")
    token = running.endpoint().token
    running.endpoint().ask("POST", "/v1/completions", {"prompt": "def f():\n    "})
    known = segments(running.folder)
    # The agent begins while this endpoint still runs: it has until the next look to give way.
    (running.folder / FILE).write_text("")
    command = [
        sys.executable,
        "-m",
        "sordino_client.completion",
        "--state",
        str(running.folder / "completion"),
    ]
    with subprocess.Popen([*command, "--repo", str(repository)], stderr=subprocess.DEVNULL) as agents:
        assert "joined a federation" in running.until("joined")
        assert running.process.wait(30) == 0
        deadline = time.monotonic() + 60
        while (found := asking.find_endpoint(running.folder / "completion")) is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found.token == token
        assert found.ask("GET", "/v1/statistics")["requests"] == 1
        assert found.ask("GET", "/v1/memory")["files"] == 1
        assert segments(running.folder) == known
        agents.terminate()
    refused = serve()
    assert refused.process.wait(60) == ConfigurationError.exit_code
    assert refused.process.stderr is not None
    assert "sordino client up" in refused.process.stderr.read()


def test_a_model_of_ones_own_is_served(serve: Callable[..., Serving], tmp_path: Path) -> None:
    base, run = bundle.shipped(), tmp_path / "run"
    (run / "serving").mkdir(parents=True)
    target = write_serving_bundle(run / "serving", base.config, base.weights, base.tokenizer, release=244)
    for named in (run, run / "serving", target, target / "model.safetensors"):
        found, _ = solo.chosen(named)
        assert found.release == 244
    with pytest.raises(StorageError, match="holds no model"):
        solo.chosen(tmp_path)
    running = serve("--model", str(run))
    assert "sordino-244 answers" in running.until("engine", "answers")


def test_how_sure_a_text_must_be_is_set_for_editors_that_do_not_say(serve: Callable[..., Serving]) -> None:
    running = serve("--show", "all")
    running.until("engine", "answers")
    request = {"prompt": "def area(width, height):\n    return "}
    shown, quiet = (
        running.endpoint().ask("POST", "/v1/completions", request | more) for more in ({}, {"show": "quiet"})
    )
    assert shown["sordino"]["reason"] == EXPLANATION["shown"]
    assert quiet["sordino"]["reason"] == EXPLANATION["unsure"]
    assert serve("--show", "loud").process.wait(60) == UsageError.exit_code


def test_it_ends_with_whoever_started_it(serve: Callable[..., Serving]) -> None:
    running = serve("--while-stdin")
    running.until("serving")
    assert running.process.stdin is not None
    running.process.stdin.close()
    assert running.process.wait(30) == 0
    assert not (running.folder / "completion/completion.json").exists()


def test_a_second_one_says_that_the_first_runs(serve: Callable[..., Serving]) -> None:
    serve().until("serving")
    second = serve()
    assert second.process.wait(60) == 7
    assert second.process.stderr is not None
    assert "already runs" in second.process.stderr.read()


class TestService:
    def test_without_systemd_it_says_so(self, tmp_path: Path) -> None:
        environment: dict[str, Any] = {**os.environ, "PATH": "", "XDG_CONFIG_HOME": str(tmp_path)}
        done = subprocess.run(
            [*COMMAND, "--install"], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == ConfigurationError.exit_code
        assert "no systemd" in done.stderr
        assert list(tmp_path.iterdir()) == []
