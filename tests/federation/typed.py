"""What a person types to found a federation, typed: real commands and processes, with the folders of one test."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sordino_platform.machine.processes import start_bound

SORDINO = (sys.executable, "-P", "-m", "sordino_platform.cli")
MEMBERS = ("alder", "birch", "cedar")
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
        self.running: dict[str, subprocess.Popen[bytes]] = {}  # by the folder that --folder names

    def run(self, line: str) -> str:
        """A command that ends."""
        process = self._begun(line)
        number = len(self.typed)
        code = process.wait(SECONDS)
        assert code == 0, (line, self.said(number))
        return (self.place / f"{number}.log").read_text()

    def start(self, line: str) -> subprocess.Popen[bytes]:
        """A command that goes on; ended with the test."""
        process = self._begun(line)
        if "--folder" in line:
            self.running[line.split("--folder ")[1].split()[0]] = process
        return process

    def _begun(self, line: str) -> subprocess.Popen[bytes]:
        self.typed.append(f"sordino {line}")
        with (self.place / f"{len(self.typed)}.log").open("wb") as log:
            process = start_bound(
                [*SORDINO, *line.split()],
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
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


def founded(script: Script) -> None:
    """Three members' agents run, and the coordinator has joined, by one command a party; the guide's short way."""
    place = script.place
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (place / "plan.toml").write_text(PLAN.format(port=port))
    for seed, name in enumerate(MEMBERS):
        repository(place / f"code-{name}", seed)
    repository(place / "public", len(MEMBERS))

    script.run("federation plan plan.toml --root root --out codes")
    joining = script.start("join --code-file codes/hub.code --heldout public --folder hub --no-up")
    for name in MEMBERS:
        script.start(f"join --code-file codes/{name}.code --repo code-{name} --folder {name}")
    requests = [f"{name}.request.json" for name in ("hub", *MEMBERS)]
    script.until(lambda: all((place / request).exists() for request in requests))
    script.run(f"federation approve root {' '.join(requests)}")
    for name in ("hub", *MEMBERS):  # carried by any channel: it is public
        shutil.copy(place / "enrolled.json", place / name / "enrolled.json")
    assert joining.wait(SECONDS) == 0, script.said(2)
