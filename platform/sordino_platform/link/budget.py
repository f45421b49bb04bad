"""A budget of bytes that coroutines wait for, first come first served."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque


class ByteBudget:
    """At most `capacity` bytes are held at once; used by one event loop only.

    Whole messages are reserved at their start, never parts: two half-read messages can not wait for each other.
    """

    def __init__(self, capacity: int) -> None:
        self._free = capacity
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    async def reserve(self, count: int) -> None:
        """Waits until `count` bytes are free and takes them. `count` must not exceed the capacity."""
        if not self._waiting and count <= self._free:
            self._free -= count
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(count)  # the bytes were granted in the same tick as the cancellation
            else:
                with contextlib.suppress(ValueError):  # a release may have dropped it already
                    self._waiting.remove((count, turn))
                self.release(0)  # the one behind may fit now
            raise

    def release(self, count: int) -> None:
        """Gives `count` bytes back and wakes those whose turn it is."""
        self._free += count
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= wanted
                turn.set_result(None)
