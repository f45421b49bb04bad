"""Makes the choice again when its inputs have changed, at no cost to the endpoint.

After a change of a release, an own adapter or the local memory it checks whether a choice is due. Then a process of its
own chooses, at the lowest priority, one at a time, and never twice for the same inputs. A release must be some time old
first: if rounds follow each other quickly, the next one would make the choice useless.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from sordino_client.completion import personal
from sordino_client.completion.child import EndpointChild
from sordino_client.completion.memory.store import Store
from sordino_client.completion.taking import record
from sordino_client.completion.taking.made_of import taken_from
from sordino_client.completion.taking.record import TakenFrom
from sordino_platform import telemetry
from sordino_platform.release.bundle import CURRENT
from sordino_privacy.errors import SordinoError

SETTLED_SECONDS = 120.0


class Choosing:
    """The choice of one endpoint and the process that makes it. Lives on the event loop."""

    def __init__(self, state: Path, repositories: Sequence[Path], *, heldout_share: float | None) -> None:
        """Without a `heldout_share` nothing is ever chosen: then the endpoint does not belong to a member."""
        self._state, self._repositories, self._share = state, tuple(repositories), heldout_share
        self._store = Store(state / "memory")
        self._child = EndpointChild(self._ended)
        self._seen: tuple[str, int, tuple[int, int]] | None = None
        self._tried: TakenFrom | None = None

    @property
    def choosing(self) -> bool:
        """Whether a choice is being made now."""
        return self._child.runs

    async def look(self) -> None:
        """Begins to choose if that is due. Call it while the memory is not being built."""
        if self._share is None or not self._repositories or self.choosing:
            return
        seen = (_pointer(self._state), self._store.stamp(), personal.stamps(self._state))
        if seen == self._seen or not _settled(self._state):
            return
        self._seen = seen
        try:
            now = taken_from(self._state)
        except SordinoError as error:
            telemetry.log().warning("nothing_chosen", error=error.message, hint=error.hint)
            return
        kept = record.read(self._state)
        before = [one for one in (self._tried, None if kept is None else kept.of) if one is not None]
        if not now.release or not all(now.due(one) for one in before):
            return
        self._tried = now
        module = ("-P", "-m", "sordino_client.completion.taking")
        options = ("--state", str(self._state), "--heldout-share", str(self._share))
        await self._child.start(*module, *options, repositories=self._repositories)

    async def close(self) -> None:
        """Ends a choice that is being made; the one before remains."""
        await self._child.close()

    def _ended(self, code: int) -> None:
        found = record.read(self._state)
        if code or found is None:
            telemetry.log().warning("nothing_chosen", outcome="failed")
            return
        telemetry.log().info("taken", release=found.release, outcome="unchosen" if found.why else "chosen")


def _settled(state: Path) -> bool:
    """Whether release and own adapters are older than SETTLED_SECONDS."""
    try:
        pointed = (state / "serving" / CURRENT).stat().st_mtime_ns
    except OSError:
        return False
    youngest = max(pointed, *personal.stamps(state))
    return time.time() - youngest / 1e9 >= SETTLED_SECONDS


def _pointer(state: Path) -> str:
    """Which bundle is current, as it is written."""
    try:
        return (state / "serving" / CURRENT).read_text("utf-8")[:256]
    except (OSError, UnicodeDecodeError):
        return ""
