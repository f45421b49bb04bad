"""Runs a founded federation on this machine: every party is a process of its own and is observed through its events."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from sordino_platform.demo import world
from sordino_platform.demo.processes import Processes
from sordino_platform.progress import FederationProgress
from sordino_platform.telemetry import follow_log
from sordino_privacy.errors import SordinoError

SORDINO = (sys.executable, "-P", "-m", "sordino_platform.cli")
# Numeric libraries with one thread each: members and coordinator share this machine.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
START_SECONDS, ROUND_SECONDS = 180.0, 600.0
TICK_SECONDS = 0.1


class LocalFederation:
    """Starts the coordinator and the members of a World, follows the coordinator's events, and waits for the end.

    `on_event` sees each event of the coordinator's file, `on_tick` is called several times a second. `processes` ends
    them all, in any case.
    """

    def __init__(
        self,
        place: world.DemoWorld,
        processes: Processes,
        *,
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        on_tick: Callable[[], None] = lambda: None,
        start_seconds: float = START_SECONDS,
        round_seconds: float = ROUND_SECONDS,
    ) -> None:
        self.place, self.processes, self.state = place, processes, FederationProgress()
        self.doing = "starting the coordinator"
        self._on_event, self._on_tick = on_event, on_tick
        self._start_seconds, self._round_seconds = start_seconds, round_seconds
        self._read = 0

    def start(self) -> None:
        """Starts everybody and waits until all members are connected. Raises SordinoError."""
        place = self.place
        _, self._read = follow_log(place.events)  # skips the events of an earlier coordinator here
        world.forget_address(place)
        command = [*SORDINO, "coordinator", "up", "--folder", str(place.foundation.coordinator)]
        self.processes.start("coordinator", command, ENVIRONMENT)
        self._until(self._start_seconds, lambda: bool(world.read_address(place)))
        if place.counts:
            ask("coordinator", "count", "--folder", str(place.foundation.coordinator))
        world.write_member_settings(place, address=world.read_address(place))
        self.doing = "members read their repositories"
        for name in place.foundation.members:
            self.start_member(name)
        everyone = set(place.foundation.members)
        self._until(self._start_seconds, lambda: self.state.connected >= everyone)
        self.doing = "training"

    def start_member(self, name: str) -> None:
        """Starts one member, or starts it again."""
        folder = self.place.foundation.members[name]
        self.processes.start(name, [*SORDINO, "client", "up", "--folder", str(folder)], ENVIRONMENT)

    def finish(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Waits until the coordinator stops by itself. Raises SordinoError unless every round completed."""

        def stopped() -> bool:
            on_tick()
            return self.state.stopped

        self._until(self._round_seconds * (1 + self.place.rounds), stopped, ending=("coordinator",))
        if self.state.completed < self.place.rounds:
            last = self.state.current
            raise SordinoError(
                f"only {self.state.completed} of {self.place.rounds} rounds completed: {last.reason if last else ''}",
                hint=self._hint(),
            )

    def watch(self) -> None:
        """Follows the events for ever. Raises SordinoError when the coordinator ends; members may end and start
        again."""
        self._until(math.inf, lambda: False, needed=("coordinator",))

    def _until(
        self,
        seconds: float,
        done: Callable[[], bool],
        ending: tuple[str, ...] = (),
        needed: Sequence[str] = (),
    ) -> None:
        """Reads events until `done`; raises SordinoError when a `needed` process (all) ends or time runs out."""
        deadline = time.monotonic() + seconds
        everyone = needed or ["coordinator", *self.place.foundation.members]
        while not done():
            events, self._read = follow_log(self.place.events, start=self._read)
            for event in events:
                self.state.apply(event)
                self._on_event(event)
            self._on_tick()
            if not events:
                self.processes.require([name for name in everyone if name not in ending])
                if ending and not self.state.stopped and not self.processes.running(ending[0]):
                    self.processes.require(ending)
                if time.monotonic() > deadline:
                    raise SordinoError(
                        f"the federation was waited for in vain, {seconds:.0f} s ({self.doing})",
                        hint=self._hint(),
                    )
                time.sleep(TICK_SECONDS)

    def _hint(self) -> str:
        return f"the processes' logs are in {self.place.folder / 'logs'}"


def ask(*words: str) -> dict[str, Any]:
    """The answer of `sordino WORDS --json`. Raises SordinoError when it fails."""
    done = subprocess.run([*SORDINO, *words, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SordinoError(f"`sordino {' '.join(words[:2])}` failed: {done.stderr.strip()}")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts
