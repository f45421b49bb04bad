"""The demo from the first process to the last, in order."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live

from sordino_platform.demo import report, view, world
from sordino_platform.demo.processes import Processes
from sordino_platform.demo.state import State
from sordino_platform.demo.transport import probe
from sordino_platform.durable import make_folder, read_file
from sordino_platform.identity import Identity
from sordino_platform.telemetry import follow
from sordino_privacy.errors import SordinoError

SORDINO = (sys.executable, "-P", "-m", "sordino_platform.cli")
# Numeric libraries with one thread each: five members and a coordinator share this machine.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
START_SECONDS, ROUND_SECONDS, SWAP_SECONDS = 180.0, 600.0, 30.0
KILL_IN_ROUND = 2
TICK_SECONDS = 0.1
# Two places in a file that the demo writes nowhere: what a developer would have typed so far.
PROMPTS = (
    "import json\nfrom pathlib import Path\n\n\ndef load_settings(path: Path) -> dict:\n    with path.open() as ",
    "class Account:\n    def __init__(self, owner, balance):\n        self.owner = owner\n        self.balance = ",
)


class Demo:
    """One run of the demo. `run` returns the facts that `--json` writes."""

    def __init__(
        self, folder: Path, *, rounds: int, prove: bool, repositories: list[Path], console: Console
    ) -> None:
        self._folder, self._rounds, self._prove = folder, rounds, prove
        self._chosen, self._console = repositories, console
        self._state, self._started = State(), time.monotonic()
        self._doing, self._read = "founding", 0
        self._killed_round = 0
        self._live: Live | None = None

    def run(self) -> dict[str, Any]:
        """Founds, starts, watches, kills, proves, asks for completions, reports. Leaves no process behind."""
        world.require_rounds(self._rounds)
        # A shell starts background jobs with Ctrl-C ignored; this one must clean up whoever ends it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        world.fresh_folder(self._folder)
        logs = self._folder / "logs"
        make_folder(logs)
        with self._screen(), Processes(logs) as processes:
            place = world.build(self._folder, rounds=self._rounds, prove=self._prove, chosen=self._chosen)
            self._start(place, processes)
            transport = self._probe(place)
            self._watch(place, processes)
            self._doing = "asking for completions"
            completions = self._completions(place)
            self._doing = "stopping"
            processes.stop()
        return self._facts(place, transport, completions)

    # ---------------------------------------------------------------------------------------------------- its scenes

    def _start(self, place: world.World, processes: Processes) -> None:
        self._doing = "starting the coordinator"
        processes.start(
            "coordinator",
            [*SORDINO, "coordinator", "up", "--folder", str(place.foundation.coordinator)],
            ENVIRONMENT,
        )
        self._until(place, processes, START_SECONDS, lambda: bool(world.read_address(place)))
        world.write_member_settings(place, address=world.read_address(place), prove=self._prove)
        self._doing = "members read their repositories"
        for name in place.foundation.members:
            self._start_member(place, processes, name)
        everyone = set(place.foundation.members)
        self._until(place, processes, START_SECONDS, lambda: self._state.connected >= everyone)

    def _start_member(self, place: world.World, processes: Processes, name: str) -> None:
        folder = place.foundation.members[name]
        processes.start(name, [*SORDINO, "client", "up", "--folder", str(folder)], ENVIRONMENT)

    def _probe(self, place: world.World) -> str:
        host, _, port = world.read_address(place).rpartition(":")
        member = next(iter(place.foundation.members.values()))
        tls = member / "tls.pem"
        return probe(
            host, int(port), authority=Identity.load(member).tls().authority, certificate=tls, key=tls
        )

    def _watch(self, place: world.World, processes: Processes) -> None:
        self._doing = "training"

        def step() -> bool:
            self._kill_one(place, processes)
            return self._state.stopped

        self._until(place, processes, ROUND_SECONDS + 120.0 * self._rounds, step, ending=("coordinator",))
        if self._state.completed < self._rounds:
            last = self._state.current
            raise SordinoError(
                f"only {self._state.completed} of {self._rounds} rounds completed: {last.reason if last else ''}",
                hint=f"the processes' logs are in {self._folder / 'logs'}",
            )

    def _kill_one(self, place: world.World, processes: Processes) -> None:
        """SIGKILL to the first member that has trained and joined the round's roster, while others still train."""
        now = self._state.current
        if self._state.killed or now is None or now.number != KILL_IN_ROUND or now.phase != "train":
            return
        trained = sorted(now.answered.get("train", ()))
        if trained:
            self._state.killed, self._killed_round = trained[0], now.number
            processes.kill(trained[0])
            self._doing = f"{trained[0]} was killed; the round goes on"
            self._draw()
            self._start_member(place, processes, trained[0])

    def _completions(self, place: world.World) -> list[dict[str, Any]]:
        found = []
        names = [name for name in place.foundation.members if name != self._state.killed]
        for name, prompt in zip(names, PROMPTS, strict=False):
            folder = place.foundation.members[name] / "completion"
            deadline = time.monotonic() + SWAP_SECONDS
            with self._endpoint(folder) as client:
                while self._model(client) != f"sordino-{self._rounds}" and time.monotonic() < deadline:
                    time.sleep(TICK_SECONDS)
                asked = time.monotonic()
                reply = client.post(
                    "/v1/completions", json={"prompt": prompt, "max_tokens": 24, "multiline": False}
                )
                reply.raise_for_status()
                body = reply.json()
            found.append(
                {
                    "member": name,
                    "prompt_tail": prompt,
                    "text": body["choices"][0]["text"],
                    "model": body["model"],
                    "milliseconds": (time.monotonic() - asked) * 1000,
                }
            )
        return found

    @contextlib.contextmanager
    def _endpoint(self, folder: Path) -> Iterator[httpx.Client]:
        where = json.loads(read_file(folder / "completion.json", limit=1 << 16))
        token = (folder / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(
            base_url=f"http://127.0.0.1:{where['port']}", headers=headers, timeout=30
        ) as client:
            yield client

    @staticmethod
    def _model(client: httpx.Client) -> str:
        models = client.get("/v1/models").json()["data"]
        return str(models[0]["id"]) if models else ""

    # ----------------------------------------------------------------------------------------------------- its means

    @contextlib.contextmanager
    def _screen(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False) as self._live:
            yield
            self._draw()

    def _draw(self) -> None:
        if self._live is not None:
            drawn = view.screen(
                self._state,
                doing=self._doing,
                started=self._started,
                wished=self._rounds,
                budget=world.EPSILON_BUDGET,
            )
            self._live.update(drawn, refresh=True)

    def _until(
        self,
        place: world.World,
        processes: Processes,
        seconds: float,
        done: Callable[[], bool],
        ending: tuple[str, ...] = (),
    ) -> None:
        """Reads events and redraws until `done`; raises SordinoError when a process ends or time runs out."""
        deadline = time.monotonic() + seconds
        everyone = ["coordinator", *place.foundation.members]
        while not done():
            events, self._read = follow(place.events, start=self._read)
            for event in events:
                self._state.apply(event)
                if self._live is None:
                    view.narrate(self._console, event)
            self._draw()
            if not events:
                processes.require([name for name in everyone if name not in ending])
                if ending and not self._state.stopped and not processes.running(ending[0]):
                    processes.require(ending)
                if time.monotonic() > deadline:
                    raise SordinoError(
                        f"the demo waited {seconds:.0f} s in vain ({self._doing})",
                        hint=f"the processes' logs are in {self._folder / 'logs'}",
                    )
                time.sleep(TICK_SECONDS)

    def _facts(self, place: world.World, transport: str, completions: list[dict[str, Any]]) -> dict[str, Any]:
        state, graph = self._state, self._folder / "loss.png"
        report.draw_losses(state, graph)
        proof = self._proof() if self._prove else None
        phases: dict[str, float] = {}
        for one in state.rounds.values():
            for name, seconds in one.phases.items():
                phases[name] = phases.get(name, 0.0) + seconds
        killed = state.rounds.get(self._killed_round)
        return {
            "format": "sordino-demo/1",
            "rounds_completed": state.completed,
            "members": len(place.foundation.members),
            "member_killed": bool(killed and state.killed and state.killed not in killed.members),
            "member_killed_name": state.killed,
            "member_killed_round": self._killed_round,
            "heldout_loss_before": state.losses[0][1],
            "heldout_loss_after": state.losses[-1][1],
            "losses": [{"release": number, "nats_per_token": loss} for number, loss in state.losses],
            "sum_exact": proof["sum_exact"] if proof else None,
            "proof": proof,
            "transport": transport,
            "bytes": state.traffic,
            "phase_seconds": phases,
            "rounds": [
                {
                    "round": one.number,
                    "outcome": one.outcome,
                    "members": one.members,
                    "dropped": one.dropped,
                    "seconds": one.seconds,
                    "heldout_loss": one.loss,
                }
                for one in state.rounds.values()
            ],
            "member_details": [self._member(place, name, company) for name, company in world.PARTIES],
            "completions": completions,
            "loss_graph": str(graph),
            "folder": str(self._folder),
            "seconds": time.monotonic() - self._started,
        }

    def _member(self, place: world.World, name: str, organisation: str) -> dict[str, Any]:
        folder = place.foundation.members[name]
        ledger = self._command("client", "ledger", "--folder", str(folder))
        prepared = json.loads(read_file(folder / "corpus" / "prepared.json", limit=1 << 16))
        return {
            "name": name,
            "organisation": organisation,
            "repositories": [path.name for path in place.repositories[name]],
            "files": prepared["files"],
            "units": prepared["units"],
            "epsilon": ledger["epsilon_spent"],
            "budget": ledger["epsilon_budget"],
            "delta": ledger["delta"],
        }

    @staticmethod
    def _command(*words: str) -> dict[str, Any]:
        done = subprocess.run([*SORDINO, *words, "--json"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SordinoError(f"`sordino {' '.join(words[:2])}` failed: {done.stderr.strip()}")
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts

    def _proof(self) -> dict[str, Any]:
        command = [sys.executable, "-P", "-m", "sordino_platform.demo.prove", str(self._folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SordinoError(f"the proof could not be run: {done.stderr.strip().splitlines()[-1]}")
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts
