"""A federation that keeps running on this machine, for trying things: the demo's setup without its script."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sordino_platform.charter import PrivacyPolicy, shipped_model
from sordino_platform.demo import founding, world
from sordino_platform.demo.cast import PARTIES, shipped_repositories
from sordino_platform.demo.local import TICK_SECONDS, LocalFederation
from sordino_platform.demo.plans import ADAPTER_RANK, EPSILON_BUDGET, LEAST_NOISE, plan_for
from sordino_platform.demo.processes import Processes
from sordino_platform.durable import make_folder, read_file
from sordino_privacy.errors import SordinoError, UsageError

FEWEST, MOST = 3, len(PARTIES)
# The noise is chosen so that the budget lasts this many rounds. The pause between rounds leaves the machine to its
# user.
ROUNDS, PAUSE_SECONDS = 50, 30.0
ENDPOINT_SECONDS = 120.0


class Lab:
    """One federation of `members` local members in `folder`. Its processes end when `run` ends, in any way."""

    def __init__(self, folder: Path, *, members: int, on_event: Callable[[dict[str, Any]], None]) -> None:
        if not FEWEST <= members <= MOST:
            raise UsageError(
                f"a lab has {FEWEST} to {MOST} members", hint="fewer cannot be private; give --members"
            )
        self._folder, self._parties, self._on_event = folder, PARTIES[:members], on_event

    def run(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Founds and starts it, calls `tell` with its addresses once all members are connected, and follows it for
        ever.

        Raises SordinoError when it cannot start, or when the coordinator ends. Members may be killed and started again.
        """
        world.fresh_folder(self._folder)
        logs = self._folder / "logs"
        make_folder(logs)
        with Processes(logs) as processes:
            place = self._found()
            federation = LocalFederation(place, processes, on_event=self._on_event)
            federation.start()
            tell(self._addresses(place, federation.state.console))
            federation.watch()

    def _found(self) -> world.DemoWorld:
        names = [name for name, _ in self._parties]
        repositories, heldout = shipped_repositories(names)
        return world.found_locally(
            self._folder,
            federation="lab",
            parties=self._parties,
            repositories=repositories,
            model=shipped_model(adapter_rank=ADAPTER_RANK),
            privacy=PrivacyPolicy(largest_epsilon=EPSILON_BUDGET, smallest_noise_multiplier=LEAST_NOISE),
            plan=plan_for(ROUNDS),
            rounds=0,
            coordinator_settings={
                **founding.coordinator_settings(heldout),
                "pause_seconds": PAUSE_SECONDS,
                "give_up_after": 0,
            },
            member_settings=founding.MEMBER_SETTINGS,
        )

    def _addresses(self, place: world.DemoWorld, console: str) -> dict[str, Any]:
        """Its folders, its addresses, and the paths of the files that hold tokens; never a token itself."""
        hub = place.foundation.coordinator
        return {
            "format": "sordino-lab/1",
            "root": str(place.foundation.root),
            "coordinator": {
                "folder": str(hub),
                "address": world.read_address(place),
                "console": console,
                "console_token_file": str(hub / "console.token"),
            },
            "members": [
                {
                    "name": name,
                    "folder": str(folder),
                    "repositories": [str(path) for path in place.repositories[name]],
                    "endpoint": _endpoint(folder / "completion"),
                    "token_file": str(folder / "completion" / "token"),
                }
                for name, folder in place.foundation.members.items()
            ],
        }


def _endpoint(folder: Path) -> str:
    """The completion endpoint's address, once it is served. Raises SordinoError."""
    path, deadline = folder / "completion.json", time.monotonic() + ENDPOINT_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise SordinoError(f"no completion endpoint in {folder}", hint="look into the logs")
        time.sleep(TICK_SECONDS)
    return f"http://127.0.0.1:{json.loads(read_file(path, limit=1 << 16))['port']}"
