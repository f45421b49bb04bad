"""The steps of the demo, in order."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live

from sordino_platform.bases import SHIPPED, find_base
from sordino_platform.demo import report, view, world
from sordino_platform.demo.cast import PARTIES, measure_newcomer
from sordino_platform.demo.founding import found_demo
from sordino_platform.demo.local import TICK_SECONDS, LocalFederation, ask
from sordino_platform.demo.plans import EPSILON_BUDGET, require_rounds
from sordino_platform.demo.processes import Processes
from sordino_platform.demo.transport import probe
from sordino_platform.durable import make_folder, read_file
from sordino_platform.identity import Identity
from sordino_platform.progress import FederationProgress
from sordino_privacy.errors import SordinoError

SWAP_SECONDS = 30.0
# A coordinator measures the founding model before it opens; a busy machine takes minutes for a larger base.
BASE_PATIENCE = {"start_seconds": 900.0, "round_seconds": 1800.0}
BASE_SWAP_SECONDS = 300.0  # a larger base is first converted for serving
KILL_IN_ROUND = 2
# What a developer would have typed so far, at two cursors of a file that the demo never writes.
PROMPTS = (
    "import json\nfrom pathlib import Path\n\n\ndef load_settings(path: Path) -> dict:\n    with path.open() as ",
    "class Account:\n    def __init__(self, owner, balance):\n        self.owner = owner\n        self.balance = ",
)


class Demo:
    """One run of the demo. `run` returns the facts that `--json` prints."""

    def __init__(
        self,
        folder: Path,
        *,
        rounds: int,
        prove: bool,
        repositories: list[Path],
        console: Console,
        base: str = SHIPPED,
    ) -> None:
        self._folder, self._rounds, self._prove, self._base = folder, rounds, prove, base
        self._chosen, self._console = repositories, console
        self._doing, self._started = "founding", time.monotonic()
        self._federation: LocalFederation | None = None
        self._killed_round = 0
        self._live: Live | None = None

    def run(self) -> dict[str, Any]:
        """Founds and starts the federation, watches it, kills a member, proves the sums, asks for completions and
        reports. Leaves no process behind."""
        require_rounds(self._rounds)
        # A shell starts background jobs with Ctrl-C ignored; this command must clean up however it is ended.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        world.fresh_folder(self._folder)
        logs = self._folder / "logs"
        make_folder(logs)
        with self._screen(), Processes(logs) as processes:
            place = found_demo(
                self._folder,
                rounds=self._rounds,
                prove=self._prove,
                chosen=self._chosen,
                base=self._base,
            )
            patience = {} if self._base == SHIPPED else BASE_PATIENCE
            federation = LocalFederation(
                place, processes, on_event=self._narrate, on_tick=self._draw, **patience
            )
            self._federation = federation
            self._doing = ""
            federation.start()
            transport = self._probe(place)
            federation.finish(self._kill_one)
            self._doing = "asking for completions"
            completions = self._completions(place)
            self._doing = "stopping"
            processes.stop()
            self._doing = "a newcomer joins"
            newcomer = self._newcomer(place)
        return self._facts(place, transport, completions, newcomer)

    # ----------------------------------------------------------------------------------------------------- its steps

    def _probe(self, place: world.DemoWorld) -> str:
        host, _, port = world.read_address(place).rpartition(":")
        member = next(iter(place.foundation.members.values()))
        tls = member / "tls.pem"
        return probe(
            host, int(port), authority=Identity.load(member).tls().authority, certificate=tls, key=tls
        )

    def _newcomer(self, place: world.DemoWorld) -> dict[str, Any] | None:
        if place.newcomer is None:
            return None
        return measure_newcomer(
            place.newcomer,
            coordinator=place.foundation.coordinator,
            repositories=place.repositories,
            scratch=place.folder / "newcomer" / "memory",
        )

    def _kill_one(self) -> None:
        """Sends SIGKILL to the first member that has trained and joined the round's roster, while others still
        train."""
        assert self._federation is not None
        federation, now = self._federation, self._state.current
        if self._state.killed or now is None or now.number != KILL_IN_ROUND or now.phase != "train":
            return
        trained = sorted(now.answered.get("train", ()))
        if trained:
            self._state.killed, self._killed_round = trained[0], now.number
            federation.processes.kill(trained[0])
            federation.doing = f"{trained[0]} was killed; the round goes on"
            self._draw()
            federation.start_member(trained[0])

    def _completions(self, place: world.DemoWorld) -> list[dict[str, Any]]:
        found = []
        names = [name for name in place.foundation.members if name != self._state.killed]
        for name, prompt in zip(names, PROMPTS, strict=False):
            folder = place.foundation.members[name] / "completion"
            deadline = time.monotonic() + (SWAP_SECONDS if self._base == SHIPPED else BASE_SWAP_SECONDS)
            with self._endpoint(folder) as client:
                while self._model(client) != self._served and time.monotonic() < deadline:
                    time.sleep(TICK_SECONDS)
                asked = time.monotonic()
                reply = client.post(
                    "/v1/completions",
                    json={"prompt": prompt, "max_tokens": 24, "multiline": False, "show": "all"},
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

    @property
    def _served(self) -> str:
        """The last release, as endpoints name it."""
        called = "sordino" if self._base == SHIPPED else find_base(self._base).name
        return f"{called}-{self._rounds}"

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

    # --------------------------------------------------------------------------------------------------- its helpers

    @property
    def _state(self) -> FederationProgress:
        return FederationProgress() if self._federation is None else self._federation.state

    def _narrate(self, event: dict[str, Any]) -> None:
        if self._live is None:
            view.narrate(self._console, event)

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
                doing=self._doing or (self._federation.doing if self._federation else ""),
                started=self._started,
                rounds=self._rounds,
                budget=EPSILON_BUDGET,
            )
            self._live.update(drawn, refresh=True)

    def _facts(
        self,
        place: world.DemoWorld,
        transport: str,
        completions: list[dict[str, Any]],
        newcomer: dict[str, Any] | None,
    ) -> dict[str, Any]:
        state, graph = self._state, self._folder / "loss.png"
        report.draw_losses(state, newcomer, graph)
        lines = [] if newcomer is None else newcomer["lines"]
        member = next(iter(place.foundation.members.values()))
        shared_memory = ask("client", "shared", "--folder", str(member)) if place.counts else None
        proof = self._proof() if self._prove else None
        phases: dict[str, float] = {}
        for one in state.rounds.values():
            for name, seconds in one.phases.items():
                phases[name] = phases.get(name, 0.0) + seconds
        killed = state.rounds.get(self._killed_round)
        return {
            "format": "sordino-demo/1",
            "base": self._base,
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
            "member_details": [self._member(place, name, company) for name, company in PARTIES],
            "shared_memory": shared_memory,
            "completions": completions,
            "newcomer": newcomer,
            "newcomer_bits_before": newcomer and newcomer["bits_before"],
            "newcomer_bits_after": newcomer and newcomer["bits_after"],
            "newcomer_lines_before": newcomer and sum(one["before"] == one["truth"] for one in lines),
            "newcomer_lines_after": newcomer and sum(one["after"] == one["truth"] for one in lines),
            "loss_graph": str(graph),
            "folder": str(self._folder),
            "seconds": time.monotonic() - self._started,
        }

    def _member(self, place: world.DemoWorld, name: str, organisation: str) -> dict[str, Any]:
        folder = place.foundation.members[name]
        ledger = ask("client", "ledger", "--folder", str(folder))
        prepared = json.loads(read_file(folder / "corpus" / "prepared.json", limit=1 << 16))
        return {
            "name": name,
            "organisation": organisation,
            "repositories": [path.name for path in place.repositories[name]],
            "files": prepared["files"],
            "units": prepared["units"],
            "epsilon": ledger["epsilon_spent"],
            "epsilon_if_others_collude": ledger["epsilon_if_others_collude"],
            "budget": ledger["epsilon_budget"],
            "delta": ledger["delta"],
        }

    def _proof(self) -> dict[str, Any]:
        command = [sys.executable, "-P", "-m", "sordino_platform.demo.prove", str(self._folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SordinoError(f"the proof could not be run: {done.stderr.strip().splitlines()[-1]}")
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts
