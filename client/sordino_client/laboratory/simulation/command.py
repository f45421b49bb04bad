"""`sordino simulate`: the gain, privacy cost and time of a federation, before it is founded."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from sordino_platform.as_json import AsJson
from sordino_platform.machine.endings import on_ending
from sordino_platform.progress import FederationProgress
from sordino_platform.telemetry import follow_log
from sordino_privacy.errors import SordinoError

CURSOR_SECONDS = 10.0


def simulate(
    members: Annotated[int, typer.Option(min=5, max=10_000, help="How many virtual members.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="How many completed rounds.")] = 1,
    repo: Annotated[
        list[Path] | None,
        typer.Option(
            "--repo", metavar="DIR", help="Code to split among the members; repeat. [the fetched field]"
        ),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, max=64, help="Adapter rank: the size of the model.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Members that work at a time on this machine.")] = 2,
    hours: Annotated[float, typer.Option(min=0.01, help="Give up after so long.")] = 24.0,
    place: Annotated[
        Path | None, typer.Option(help="Keep the federation here [a folder that is removed].")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where fetched corpora lie.")] = None,
    as_json: AsJson = False,
) -> None:
    """Runs a federation that does not exist yet: the same apps, protocol and noise, with virtual members on Ray.

    The code is split among the members; what is left over measures the model. The training is the one that `sordino
    coordinator new` would suggest for that many members. With RAY_ADDRESS set, it runs on that cluster.

    Example: sordino simulate --members 1000 --rounds 3 --json
    """
    with tempfile.TemporaryDirectory(prefix="sordino-simulation-") as temporary:
        report = run(
            (place or Path(temporary) / "federation").expanduser().resolve(),
            members=members,
            rounds=rounds,
            repositories=repo or [],
            rank=rank,
            workers=workers,
            seconds=hours * 3600,
            cache=cache,
        )
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    for name, value in report.items():
        typer.echo(f"{name.replace('_', ' '):44} {'-' if value is None else value}")


def run(
    folder: Path,
    *,
    members: int,
    rounds: int,
    repositories: list[Path],
    rank: int,
    workers: int,
    seconds: float,
    cache: Path | None,
) -> dict[str, Any]:
    """Founds, runs and reports. Raises any SordinoError."""
    from sordino_client.laboratory.pretrain.launch import user_cache
    from sordino_client.laboratory.simulation.code import of_field, of_folders, split
    from sordino_client.laboratory.simulation.engine import SimulationRun
    from sordino_client.laboratory.simulation.place import prepare_simulation

    started = time.monotonic()
    engine = SimulationRun(folder=folder, members=members, workers=workers)
    engine.require()
    found = of_folders(repositories) if repositories else of_field(cache or user_cache())
    shares = split(found, members=members)
    placed = prepare_simulation(folder, shares, rounds=rounds, rank=rank, phase_seconds=seconds, say=say)
    founded = time.monotonic()
    on_ending(interrupted)  # SIGTERM too, or Flower's and Ray's processes would keep running
    shown = ShownProgress(folder / "coordinator" / "events.jsonl")
    for _ in engine.run(seconds):
        shown.look()
    shown.look(last=True)
    finished = time.monotonic()
    found_out = figures(folder, members=members)
    require_rounds(found_out["rounds_completed"], of=rounds, reason=shown.reason or engine.told())
    return {
        "members": members,
        "files_a_member": round(sum(map(len, shares.members)) / members, 1),
        "heldout_repositories": len(shares.heldout),
        "parameters": placed.parameters,
        "noise_multiplier": placed.training.plan.noise_multiplier,
        "epsilon_budget": placed.budget,
        "epsilon_spent_at_most": shown.epsilon,
        **found_out,
        "driver_peak_mb": round(engine.driver_peak_bytes / 1e6) or None,
        "seconds_founding": round(founded - started, 1),
        "seconds_rounds": round(finished - founded, 1),
    }


def require_rounds(completed: int, *, of: int, reason: str) -> None:
    """Raises RoundsMissingError unless all rounds were completed, because Flower's command exits with 0 anyway."""
    if completed < of:
        raise RoundsMissingError(
            f"the simulation ended after {completed} of {of} rounds: {reason}",
            hint="--place DIR keeps everything to look into: flower/run.log, coordinator/events.jsonl",
        )


def figures(folder: Path, *, members: int) -> dict[str, Any]:
    """The figures from the coordinator's records. Bytes are message contents, both ways, per member and round."""
    past = _asked(folder, "rounds", "--limit", "1000")
    losses = [one["heldout_loss"] for one in _asked(folder, "releases") if one["heldout_loss"] is not None]
    done = [row for row in past if row["outcome"] == "completed"]
    took = sum(row["finished"] - row["started"] for row in done)
    per = members * max(1, len(past))
    return {
        "rounds_completed": len(done),
        "rounds_failed": len(past) - len(done),
        "members_in_the_last_sum": done[-1]["included"] if done else 0,
        "loss_before_nats_per_token": losses[0] if losses else None,
        "loss_after_nats_per_token": losses[-1] if losses else None,
        "gain_nats_per_token": losses[0] - losses[-1] if losses else None,
        "bytes_from_a_member_and_round": round(sum(row["bytes_in"] for row in past) / per),
        "bytes_to_a_member_and_round": round(sum(row["bytes_out"] for row in past) / per),
        "seconds_a_round": round(took / len(done), 1) if done else None,
    }


def _asked(folder: Path, *words: str) -> Any:
    command = [sys.executable, "-P", "-m", "sordino_platform.cli", "coordinator", *words]
    done = subprocess.run(
        [*command, "--folder", str(folder / "coordinator"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SordinoError(done.stderr.strip().removeprefix("error: "))
    return json.loads(done.stdout)


class RoundsMissingError(SordinoError):
    """Flower's run ended before its rounds were done."""

    exit_code = 11


@dataclass(slots=True)
class ShownProgress:
    """Reports the progress on stderr: at each new phase, and from time to time within one."""

    log: Path
    _read: int = 0
    _told: str = ""
    _at: float = 0.0
    _progress: FederationProgress = field(default_factory=FederationProgress)

    @property
    def reason(self) -> str:
        """Why the newest round ended without a release; empty if it made one, or if there was no round."""
        return "" if self._progress.current is None else self._progress.current.reason

    @property
    def epsilon(self) -> float | None:
        """The highest value that a member reported."""
        return max(self._progress.epsilon.values(), default=None)

    def look(self, *, last: bool = False) -> None:
        """Reads the appended lines and reports what is new."""
        events, self._read = follow_log(self.log, start=self._read)
        for event in events:
            self._progress.apply(event)
        one = self._progress.current
        if one is None:
            return
        answered, asked = len(one.answered.get(one.phase, ())), one.asked.get(one.phase, 0)
        turn = f"{one.number} {one.phase} {one.outcome}"
        if turn == self._told and not last and time.monotonic() - self._at < CURSOR_SECONDS:
            return
        self._told, self._at = turn, time.monotonic()
        state = f"{one.phase}, {answered} of {asked}" if one.outcome == "running" else one.outcome
        say(f"round {one.number}: {state}{f' ({one.reason})' if one.reason else ''}")


def interrupted(_: str) -> None:
    """Ends the command as Ctrl-C does, so that the processes it started end too."""
    raise KeyboardInterrupt


def say(text: str) -> None:
    """Prints a progress line."""
    typer.echo(text, err=True)
