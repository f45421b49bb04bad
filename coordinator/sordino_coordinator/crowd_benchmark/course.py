"""One federation of many, driven through its rounds: `sordino coordinator up` and processes of light members."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Any, Final, Self, cast

from sordino_coordinator.control.desk import pause, resume
from sordino_coordinator.crowd_benchmark.place import FoundedFolder
from sordino_coordinator.rounds import RoundRecord, RoundStore
from sordino_platform.machine.memory import forget_peak, peak_since
from sordino_platform.machine.processes import start_bound
from sordino_platform.machine.processors import used_seconds
from sordino_privacy.errors import LinkError

LOOK_SECONDS: Final = 0.1
START_SECONDS: Final = 120.0
CROWDS: Final = 2
"""Processes of members: one for each core. Each has one thread for all its members (`links`)."""

Row = dict[str, Any]


class Course:
    """A running federation. A context manager: everything ends with it."""

    def __init__(self, place: FoundedFolder) -> None:
        self.place = place
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        place.listen(self.address)
        self._log = (place.folder / "output.log").open("ab")
        self._hub: subprocess.Popen[bytes] | None = None
        share = -(-place.members // CROWDS)
        self._crowds = [
            self._python(
                "sordino_coordinator.crowd_benchmark.members",
                str(place.folder),
                str(first),
                str(min(share, place.members - first)),
            )
            for first in range(0, place.members, share)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self._crowds, *([self._hub] if self._hub else [])):
            end(process)
        self._log.close()

    # ------------------------------------------------------------------------------------------------- the processes

    @property
    def pid(self) -> int:
        """The coordinator's."""
        assert self._hub is not None
        return self._hub.pid

    def start(self) -> None:
        """Starts the coordinator, paused. Raises LinkError when it does not come up."""
        pause(self.place.coordinator)
        address = self.place.coordinator / "address"
        address.unlink(missing_ok=True)
        self._hub = self._python(
            "sordino_platform.cli", "coordinator", "up", "-f", str(self.place.coordinator)
        )
        self._until(address.exists, "the coordinator did not start", seconds=START_SECONDS)

    def kill(self) -> None:
        """SIGKILL to the coordinator."""
        assert self._hub is not None
        end(self._hub)
        self._hub = None

    def connect(self, *, seconds: float = 600.0) -> float:
        """Every member that has no link opens one; how long it took until all were connected, in seconds."""
        started = time.monotonic()
        self._tell({"do": "connect", "address": self.address})
        self._until(
            lambda: self.connected() == self.place.members, "not all members connected", seconds=seconds
        )
        return time.monotonic() - started

    def connected(self) -> int:
        """How many members' links stand, by their own account."""
        return sum(answer["connected"] for answer in self._tell({"do": "count"}))

    # --------------------------------------------------------------------------------------------------------- rounds

    def round(self, *, leaving: str | None = None, share: float = 0.0) -> Row:
        """One round. `share` of the members leave without an answer when the phase `leaving` asks them.

        Seconds by phase, processor seconds of the coordinator and of all members, and the coordinator's peak.
        """
        gone = secrets.SystemRandom().sample(self.place.names(), int(share * self.place.members))
        if leaving is not None:
            self._tell({"do": "drop", "phase": leaving, "names": gone})
        before = len(self._rounds())
        forget_peak(self.pid)
        hub, crowd = used_seconds(self.pid), self._crowd_seconds()
        resume(self.place.coordinator)
        self._until(lambda: len(self._rounds()) > before, "no round began", seconds=600.0)
        pause(self.place.coordinator)  # it holds the next one back
        self._until(lambda: self._rounds()[-1].finished is not None, "the round did not end", seconds=3600.0)
        end = self._rounds()[-1]
        return {
            "members": self.place.members,
            "leaving_at": leaving,
            "left": len(gone) if leaving else 0,
            "outcome": end.outcome.value,
            "in_the_sum": len(end.members),
            "seconds": rounded((end.finished or end.started) - end.started),
            "phase_seconds": {phase: rounded(seconds) for phase, seconds in end.phases.items()},
            "coordinator_processor_seconds": rounded(used_seconds(self.pid) - hub),
            "members_processor_seconds": rounded(self._crowd_seconds() - crowd),
            "coordinator_peak_mb": rounded(peak_since(self.pid) / 1e6),
            "mb_in": rounded(end.bytes_in / 1e6),
            "mb_out": rounded(end.bytes_out / 1e6),
        }

    def idle_percent(self, seconds: float) -> float:
        """Percent of one core that the paused coordinator uses while every link stands and is silent."""
        before = used_seconds(self.pid)
        time.sleep(seconds)
        return 100 * (used_seconds(self.pid) - before) / seconds

    def storm(self) -> float:
        """The coordinator is killed and started anew: seconds from its listening until every member is back."""
        self.kill()
        self._until(lambda: self.connected() == 0, "the members did not notice", seconds=120.0)
        self.start()
        return self.connect()

    # ------------------------------------------------------------------------------------------------------- plumbing

    def _rounds(self) -> list[RoundRecord]:
        """Every round, oldest first."""
        store = RoundStore(self.place.coordinator / "state.sqlite")
        try:
            return store.rounds()
        finally:
            store.close()

    def _crowd_seconds(self) -> float:
        return float(sum(answer["seconds"] for answer in self._tell({"do": "count"})))

    def _tell(self, order: Row) -> Sequence[Row]:
        for process in self._crowds:
            stream = cast(IO[bytes], process.stdin)
            stream.write(json.dumps(order).encode() + b"\n")
            stream.flush()
        return [json.loads(cast(IO[bytes], process.stdout).readline()) for process in self._crowds]

    def _python(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        return start_bound(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def _until(self, claim: Callable[[], bool], failure: str, *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not claim():
            ended = self._hub is not None and self._hub.poll() is not None
            if ended or time.monotonic() > deadline:
                why = "the coordinator has ended" if ended else f"{failure} within {seconds:.0f} s"
                raise LinkError(why, hint=f"see {self.place.folder / 'output.log'}")
            time.sleep(LOOK_SECONDS)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and waits until the kernel has let go of everything."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def rounded(value: float) -> float:
    """Three digits behind the point."""
    return round(float(value), 3)
