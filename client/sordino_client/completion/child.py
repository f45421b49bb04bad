"""A process that the completion endpoint starts beside itself: one at a time, ended with the endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


class EndpointChild:
    """The children of one purpose, each after the other. Lives on the event loop.

    `ended` is called on the loop with the exit status of each.
    """

    def __init__(self, ended: Callable[[int], None]) -> None:
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Whether one runs now."""
        return self._process is not None

    async def start(self, *arguments: str, repositories: Sequence[Path]) -> None:
        """Starts this Python with these arguments, and `--repo` for each repository. None may run."""
        command = [sys.executable, *arguments]
        for repository in repositories:
            command += ["--repo", str(repository)]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        self._waiting = asyncio.create_task(self._reap(self._process))

    async def close(self) -> None:
        """Ends the one that runs."""
        if self._process is not None and self._waiting is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._waiting

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        self._process = None
        self._ended(status)
