"""Keeps the memory as fresh as the files, without costing the endpoint anything.

A build runs in a process of its own: at the start, when it is asked for, and every few minutes while somebody types.
While nobody types, nothing runs. A memory without repositories is removed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from sordino_client.completion.child import EndpointChild
from sordino_client.completion.memory.store import Store
from sordino_platform import telemetry

EVERY_SECONDS = 300.0


class Upkeep:
    """The memory of one endpoint and the process that builds it. Lives on the event loop."""

    def __init__(self, state: Path, repositories: Sequence[Path]) -> None:
        self.store = Store(state / "memory")
        self._state, self._repositories = state, tuple(repositories)
        self._child = EndpointChild(self._ended)
        self._built = -EVERY_SECONDS
        self._answered = 0
        # At the start files may have changed, or repositories been withdrawn, while nothing ran.
        self.wanted = bool(self._repositories) or self.store.folder.exists()

    @property
    def building(self) -> bool:
        """Whether a build runs now."""
        return self._child.runs

    async def look(self, answered: int) -> None:
        """Starts a build where one is due; `answered` counts completions."""
        due = answered != self._answered and time.monotonic() - self._built >= EVERY_SECONDS
        if self.building or not (self.wanted or (due and self._repositories)):
            return
        self.wanted, self._answered, self._built = False, answered, time.monotonic()
        module = "sordino_client.completion.memory"
        await self._child.start("-m", module, "--state", str(self._state), repositories=self._repositories)

    async def purge(self) -> None:
        """Removes the memory now; the next build makes it again. Raises StorageError."""
        await self.close()
        await asyncio.to_thread(self.store.purge)

    async def close(self) -> None:
        """Ends a build that runs; the next build removes what it left uncommitted."""
        await self._child.close()

    def _ended(self, code: int) -> None:
        status = self.store.status()
        outcome = "failed" if code else "ok"
        if status.unread:
            outcome = "incomplete"  # said on the statistics page, by `client status` and `doctor`
        telemetry.log().info("memory_built", outcome=outcome, bytes=status.bytes)
