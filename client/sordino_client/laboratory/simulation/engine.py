"""Runs Flower's simulation engine as processes: an own SuperLink on loopback, and `flwr run` with the shipped app.

It does not use `flwr run ... local`, because that SuperLink has one port for the whole machine and keeps running after
its runs. Ray uses this machine's processors, or joins the cluster in `RAY_ADDRESS`. Every process that is started here
is ended here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Final

from sordino_platform.durable import make_folder
from sordino_platform.machine import memory
from sordino_platform.machine.processes import ProcessSession, end_at_once, processes_marked
from sordino_privacy.errors import ConfigurationError, LinkError, UsageError

START_SECONDS: Final = 180.0
RAY_SECONDS: Final = 60.0
"""Most seconds from the driver's start to Ray's first process on this machine."""
CLUSTER_SECONDS: Final = 10.0
CRASHED: Final = b"Simulation Runtime crashed"
"""The line that Flower's driver logs when its engine failed. The driver continues, and its coordinator keeps waiting.
"""
QUIET: Final = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}


@dataclass(slots=True, kw_only=True)
class SimulationRun:
    """One run. `workers` is the number of Ray's actors on this machine; 0: one for each processor of the cluster."""

    folder: Path
    members: int
    workers: int
    driver_peak_bytes: int = 0
    _driver_seen: float | None = None
    _ray_seen: bool = False
    _started: list[ProcessSession] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Flower's own folder, which also identifies the processes of this run."""
        return self.folder / "flower"

    def environment(self) -> dict[str, str]:
        """The environment variables that started processes get in addition to the inherited ones."""
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        # Ray would join any cluster that it finds on this machine; only the one that was named should be used.
        cluster = os.environ.get("RAY_ADDRESS", "local")
        return {**QUIET, "FLWR_HOME": str(self.home), "PATH": path, "RAY_ADDRESS": cluster}

    def require(self) -> None:
        """Checks what can be checked before anything is founded or started.

        Raises ConfigurationError without Flower's simulation extra, LinkError when nothing answers at the cluster in
        RAY_ADDRESS.
        """
        if shutil.which("flower-superlink", path=self.environment()["PATH"]) is None or not _has_ray():
            raise ConfigurationError(
                "Flower's simulation engine is not installed", hint="pip install 'sordino[simulation]'"
            )
        cluster = re.fullmatch(r"(?:ray://)?([^/]+):(\d{1,5})", os.environ.get("RAY_ADDRESS", ""))
        if cluster is None:
            return
        try:
            socket.create_connection((cluster[1], int(cluster[2])), timeout=CLUSTER_SECONDS).close()
        except (OSError, OverflowError):
            raise LinkError(
                f"no Ray cluster answers at {cluster[1]}:{cluster[2]}, which RAY_ADDRESS names",
                hint="start one there (`ray start --head`), or unset RAY_ADDRESS: then Ray starts on this machine",
            ) from None

    def run(self, seconds: float) -> Iterator[None]:
        """Starts everything and yields about once per second during the run.

        Raises the errors of `require`, and LinkError when the engine does not start, fails, or takes longer than
        `seconds`.
        """
        self.require()
        make_folder(self.home)
        port = _free_port()
        (self.home / "config.toml").write_text(
            '[superlink]\ndefault = "simulation"\n\n[superlink.simulation]\n'
            f'address = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        try:
            self._start("superlink", "flower-superlink", "--simulation", "--insecure", "--host", "127.0.0.1",
                        "--port", str(port), "--disable-runtime-dependency-installation")  # fmt: skip
            self._wait_for(port)
            running = self._start("run", "flwr", "run", str(app_folder()), "simulation", "--stream",
                                  "--run-config", f'federation-folder="{self.folder}"',
                                  "--federation-config", self._federation())  # fmt: skip
            ends = time.monotonic() + seconds
            while running.poll() is None:
                if time.monotonic() > ends:
                    raise LinkError(
                        f"the simulation took longer than {seconds:.0f} seconds", hint="--hours allows more"
                    )
                self._look()
                yield
                time.sleep(1.0)
            if running.returncode:
                raise LinkError(f"Flower could not run the simulation: {self.told()}", hint=str(self.home))
        finally:
            self.stop()

    def stop(self) -> None:
        """Ends every process that this run started, because Ray's processes keep running after a failure."""
        for session in self._started:
            session.end()
        for session in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                session.process.wait(10)
        for number in processes_marked("FLWR_HOME", str(self.home)):
            end_at_once(number)

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("wb") as log:
            session = ProcessSession(command, log=log, environment=self.environment())
        self._started.append(session)
        return session.process

    def _federation(self) -> str:
        asked = [f"num-supernodes={self.members}", "client-resources-num-cpus=1"]
        if "RAY_ADDRESS" not in os.environ:  # a cluster counts its own processors
            asked.append(f"init-args-num-cpus={self.workers}")
        return " ".join(asked)

    def _wait_for(self, port: int) -> None:
        ends = time.monotonic() + START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > ends or self._started[0].process.poll() is not None:
                raise LinkError(
                    f"Flower's SuperLink did not start: {self.told('superlink')}", hint=str(self.home)
                )
            time.sleep(0.2)

    def told(self, name: str = "run") -> str:
        """The last line of a log that names an exception, or else its last line."""
        lines = (self.home / f"{name}.log").read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if re.match(r"^[\w.]*(Error|Exception)\b", line)]
        return (errors or lines or ["it said nothing"])[-1][:500]

    def _look(self) -> None:
        """Records the peak memory of the coordinator's process.

        Raises LinkError when Ray does not start, because the coordinator would wait for its members until its deadline.
        """
        here = processes_marked("FLWR_HOME", str(self.home))
        for number, command in here.items():
            if "flwr-simulation" in command:
                self._driver_seen = self._driver_seen or time.monotonic()
                with contextlib.suppress(UsageError):  # the process has just ended
                    self.driver_peak_bytes = max(self.driver_peak_bytes, memory.peak_since(number))
        self._ray_seen |= "RAY_ADDRESS" in os.environ or any(
            name in command for command in here.values() for name in ("raylet", "gcs_server")
        )
        late = self._driver_seen is not None and time.monotonic() - self._driver_seen > RAY_SECONDS
        if (late and not self._ray_seen) or CRASHED in (self.home / "run.log").read_bytes():
            raise LinkError(
                f"Ray did not start: {self.told()}",
                hint=f"see {self.home / 'run.log'}; Ray needs room in /dev/shm and in its folder (RAY_TMPDIR [/tmp])",
            )


def app_folder() -> Path:
    """The Flower app that names our two apps. A wheel contains it; a checkout reads it from its folder."""
    shipped = Path(str(files("sordino_client.laboratory.simulation"))) / "app"
    return shipped if shipped.is_dir() else Path(__file__).parents[4] / "deploy" / "flower"


def _has_ray() -> bool:
    from importlib.util import find_spec

    return find_spec("ray") is not None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
