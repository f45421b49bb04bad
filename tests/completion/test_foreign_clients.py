"""Clients that no one here wrote, from npm, against a real endpoint on the model that ships.

The packages are installed once into the user's cache (`XDG_CACHE_HOME/sordino/npm-<digest>`), without running any of
their scripts. Without Node there is nothing to run them with, and the tests are skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sordino_client.completion import bundle
from sordino_platform.release import write_serving_bundle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="Node is not installed: its clients cannot run"),
]

PROGRAMS = Path(__file__).parent / "clients"
PREFIX, SUFFIX = "def area(width, height):\n    return ", "\n\nprint(area(2, 3))\n"


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder with the clients' packages and our programs beside them."""
    manifest = (PROGRAMS / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "sordino" / f"npm-{hashlib.sha256(manifest).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in PROGRAMS.iterdir():
        shutil.copy(path, folder)
    if not (folder / "installed").exists():
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        (folder / "installed").touch()
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Any]) -> Any:
    state = tmp_path_factory.mktemp("foreign")
    shipped = bundle.shipped()
    write_serving_bundle(state / "serving", shipped.config, shipped.weights, shipped.tokenizer, release=1)
    return start(state)


@pytest.fixture(scope="module")
def expected(running: Any) -> str:
    """What the engine writes between the two, whoever asks."""
    answer = running.endpoint.ask(
        "POST", "/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 12}
    )
    text = str(answer["choices"][0]["text"])
    assert text.strip()
    return text


def run(packages: Path, program: str, running: Any, home: Path, **environment: str) -> Any:
    """What a client's program prints, as JSON."""
    base = f"http://127.0.0.1:{running.endpoint.port}"
    done = subprocess.run(
        ["node", program],
        cwd=packages,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "BASE": base,
            "TOKEN": running.endpoint.token,
            "PREFIX": PREFIX,
            "SUFFIX": SUFFIX,
            **environment,
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_openai_client_for_node(packages: Path, running: Any, expected: str, tmp_path: Path) -> None:
    found = run(packages, "openai.mjs", running, tmp_path)
    assert found["models"] == ["sordino-1"]
    assert found["whole"] == found["streamed"] == found["several"][0] == expected
    assert len(set(found["several"])) == len(found["several"])
    # What ended the text (a line's end, a stop string) was written and counted, and is no part of it.
    assert 0 < found["logprobs"] <= found["tokens"] <= 12
    assert found["written"] == expected
    assert found["aborted"] is True
    assert found["refused"] == 401


def test_continues_adapters(packages: Path, running: Any, expected: str, tmp_path: Path) -> None:
    found = run(packages, "continue.mjs", running, tmp_path)
    assert found == dict.fromkeys(("whole", "streamed", "filled", "templated"), expected)


def test_tabbys_agent_and_its_events(packages: Path, running: Any, expected: str, tmp_path: Path) -> None:
    settings = tmp_path / ".tabby-client" / "agent" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        f'[server]\nendpoint = "http://127.0.0.1:{running.endpoint.port}"\ntoken = "{running.endpoint.token}"\n'
        "[anonymousUsageTracking]\ndisable = true\n"
    )
    before = running.endpoint.ask("GET", "/v1/statistics")
    found = run(packages, "tabby.mjs", running, tmp_path)
    assert found == {"server": [expected], "library": [expected], "status": "ready"}
    after = running.endpoint.ask("GET", "/v1/statistics")
    assert after["shown"] == before["shown"] + 1
    assert after["accepted"] == before["accepted"] + 1
    assert after["accepted_characters"] == before["accepted_characters"] + len(expected)


def test_the_protocol_of_vscode_languageclient(
    packages: Path, running: Any, expected: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "sordino_platform.cli", "lsp", "--state", str(running.state)]
    found = run(packages, "language.mjs", running, tmp_path, SERVER=json.dumps(command))
    assert found["offers"] is True
    assert found["inline"] == found["plain"] == [expected]
    assert found["cancelled"] == found["wanted"]
