"""The completion server as a child of the agent. It outlives the ledger's refusals, and dies with the agent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sordino_client.settings import MemberSettings
from sordino_platform.machine.processes import start_bound

GRACE_SECONDS = 5.0


class CompletionProcess:
    """One for the life of an agent, whatever happens to its link and its ledger."""

    def __init__(self, folder: Path, settings: MemberSettings) -> None:
        self._folder, self._settings = folder / "completion", settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server, if the settings want one and none runs."""
        if self._process is not None or not self._settings.completions:
            return
        command = [sys.executable, "-P", "-m", "sordino_client.completion", "--state", str(self._folder)]
        for repository in self._settings.repositories:
            command += ["--repo", str(repository)]
        command += ["--heldout-share", str(self._settings.heldout_share)]
        command += ["--port", str(self._settings.completion_port), "--while-stdin"]
        self._process = start_bound(command, stdin=subprocess.PIPE)

    def end(self) -> None:
        """Ends it, by force after GRACE_SECONDS."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends by itself; on Windows nothing else can ask it to
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
