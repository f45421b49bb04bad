"""A federation of three members and a coordinator is founded by real commands, which are counted; all are connected.

Run by `make test-all`: three agents and a coordinator start for real.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sordino_platform.children import die_with_parent

SORDINO = (sys.executable, "-P", "-m", "sordino_platform.cli")
MEMBERS = ("alder", "birch", "cedar")
MOST_COMMANDS = 8
SECONDS = 300.0
PLAN = """
federation = "orchard"
[coordinator]
name = "hub"
organisation = "Orchard Ltd"
address = "localhost:{port}"
[[members]]
name = "alder"
organisation = "Alder Ltd"
[[members]]
name = "birch"
organisation = "Birch Ltd"
[[members]]
name = "cedar"
organisation = "Cedar Ltd"
[floors]
cohort = 3
[model]
adapter_rank = 1
"""


class Script:
    """Types commands, counts them, and ends what still runs."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self.place, self._stack = place, stack
        self.typed: list[str] = []

    def run(self, line: str) -> str:
        """A command that ends."""
        process = self.start(line)
        code = process.wait(SECONDS)
        assert code == 0, (line, self.said(len(self.typed)))
        return self.said(len(self.typed))

    def start(self, line: str) -> subprocess.Popen[bytes]:
        """A command that goes on; ended with the test."""
        self.typed.append(f"sordino {line}")
        with (self.place / f"{len(self.typed)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*SORDINO, *line.split()],
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

        def end() -> None:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

        self._stack.callback(end)
        return process

    def said(self, number: int) -> str:
        return (self.place / f"{number}.log").read_text()[-4000:]

    def until(self, claim: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not claim():
            logs = "\n".join(self.said(number + 1) for number in range(len(self.typed)))
            assert time.monotonic() < end, logs
            time.sleep(0.2)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    with ExitStack() as stack:
        yield Script(tmp_path, stack)


def repository(folder: Path, seed: int) -> None:
    """Ninety files that do not resemble each other, in nine folders."""
    draw = random.Random(seed)
    for number in range(90):
        words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(60)]
        lines = [
            f"def {one}({two}):\n    return {two} * {draw.randrange(999)} + len({three!r})\n"
            for one, two, three in zip(words[::3], words[1::3], words[2::3], strict=True)
        ]
        package = folder / f"package{number % 9}"
        package.mkdir(parents=True, exist_ok=True)
        (package / f"{words[0]}.py").write_text("\n".join(lines))


@pytest.mark.slow
def test_three_members_and_a_coordinator_are_founded_in_at_most_eight_commands(script: Script) -> None:
    place, began = script.place, time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (place / "plan.toml").write_text(PLAN.format(port=port))
    for seed, name in enumerate(MEMBERS):
        repository(place / f"code-{name}", seed)

    repository(place / "public", len(MEMBERS))

    script.run("federation plan plan.toml --root root --out codes")
    joining = script.start("join --code-file codes/hub.code --heldout public --folder hub --no-up")
    agents = [
        script.start(f"join --code-file codes/{name}.code --repo code-{name} --folder {name}")
        for name in MEMBERS
    ]
    requests = [f"{name}.request.json" for name in ("hub", *MEMBERS)]
    script.until(lambda: all((place / request).exists() for request in requests))
    script.run(f"federation approve root {' '.join(requests)}")
    for name in ("hub", *MEMBERS):  # carried by any channel: it is public
        shutil.copy(place / "enrolled.json", place / name / "enrolled.json")
    assert joining.wait(SECONDS) == 0, script.said(2)
    script.start("coordinator up --folder hub --console 127.0.0.1:0")

    def connected() -> set[object]:
        events = place / "hub" / "events.jsonl"
        lines = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
        return {line["member"] for line in lines if line["event"] == "member_connected"}

    script.until(lambda: connected() == set(MEMBERS))
    assert all(agent.poll() is None for agent in agents)
    print(f"\n{len(script.typed)} commands, {time.monotonic() - began:.0f} seconds:")
    print("\n".join(script.typed))
    assert len(script.typed) <= MOST_COMMANDS
    # No private key left the folder that made it, and no code works any more.
    for path in [place / "enrolled.json", *(place / request for request in requests)]:
        assert b"PRIVATE" not in path.read_bytes()
    assert not list((place / "root" / "invitations").glob("*.json"))
