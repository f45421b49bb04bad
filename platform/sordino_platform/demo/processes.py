"""The demo's processes: each is started in its own session, and all are ended when the demo ends, in any way."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from sordino_platform.machine.processes import ProcessSession
from sordino_privacy.errors import SordinoError

GRACE_SECONDS = 10.0


class Processes:
    """Named child processes. Each leads a session and has its own log."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, ProcessSession] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts `command` as `name`; its output goes to `<name>.log`."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = ProcessSession(command, log=log, environment=environment)

    def kill(self, name: str) -> int:
        """Sends SIGKILL to the whole session of `name`; returns the leader's pid."""
        session = self._running.pop(name)
        session.kill()
        return session.process.pid

    def require(self, names: Sequence[str]) -> None:
        """Raises SordinoError, with the last line of the log, when one of `names` has ended by itself."""
        for name in names:
            if name in self._running and not self.running(name):
                code = self._running[name].process.returncode
                lines = (self._logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
                said = next((line for line in reversed(lines) if line.startswith("error: ")), "")
                raise SordinoError(
                    f"{name} ended with exit code {code}: {said.removeprefix('error: ')}",
                    hint=f"its whole log is in {self._logs / f'{name}.log'}",
                )

    def running(self, name: str) -> bool:
        """Whether the process `name` runs."""
        return name in self._running and self._running[name].process.poll() is None

    def stop(self, names: Sequence[str] | None = None) -> None:
        """Sends SIGTERM to the named sessions (by default all), and after the grace period SIGKILL to those that still
        run."""
        ending = {
            name: self._running.pop(name) for name in list(names or self._running) if name in self._running
        }
        for session in ending.values():
            session.end()
        deadline = time.monotonic() + GRACE_SECONDS
        for session in ending.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                session.process.wait(max(0.1, deadline - time.monotonic()))
            session.kill()
