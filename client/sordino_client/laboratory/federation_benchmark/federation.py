"""The real federation of the benchmark: a separate process for each party, mutual TLS, secure sums."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sordino_client.laboratory.federation_benchmark.repositories import Repository
from sordino_client.laboratory.federation_benchmark.terms import Terms
from sordino_client.status import read_ledger
from sordino_platform.architecture import Vector
from sordino_platform.demo import world
from sordino_platform.demo.local import LocalFederation, ask
from sordino_platform.demo.processes import Processes
from sordino_platform.durable import make_folder, read_file, write_file
from sordino_platform.identity import Identity
from sordino_platform.progress import FederationProgress, RoundView
from sordino_platform.release import ReleaseStore
from sordino_platform.telemetry import follow_log
from sordino_privacy.counts import SharedMemory
from sordino_privacy.errors import ConfigurationError

TRAIN_SECONDS = 3600.0
GATHER_SECONDS = 600.0  # a large member needs minutes to read its repositories, and should be in every sum
# Written last: if founding was interrupted, the federation is founded again.
FOUNDED, KEPT = "founded", "kept"
MAX_VECTOR_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationRun:
    """The results of a federation: the vector of each release, and the facts of the run (JSON)."""

    releases: tuple[Vector, ...]
    facts: Mapping[str, Any]


def federate(
    folder: Path,
    members: Mapping[str, Repository],
    terms: Terms,
    *,
    on_progress: Callable[[str], None],
) -> FederationRun:
    """Founds a federation in `folder`, runs its rounds, and ends every process. Raises SordinoError.

    An interrupted federation with the same terms continues after its last finished round. Each member is a process for
    the whole run and trains in a child process. One child runs at a time, because all share a machine.
    """
    place = _founded(folder, members, terms)
    done = min(terms.rounds, len(_completed(place)))
    for number in range(1, done + 1):
        _keep_release(place, number, anew=False)
    if done < terms.rounds:
        world.write_coordinator_settings(
            replace(place, rounds=terms.rounds - done), _coordinator_settings(terms)
        )
        _run(replace(place, rounds=terms.rounds - done), done, on_progress)
    return FederationRun(
        releases=tuple(_kept_release(place, number) for number in range(1, terms.rounds + 1)),
        facts=_facts(place, terms),
    )


def count(
    folder: Path,
    members: Mapping[str, Repository],
    terms: Terms,
    counts: Mapping[str, object],
    *,
    on_progress: Callable[[str], None],
) -> dict[str, Any]:
    """Lets the federation in `folder` count phrases once, after its rounds. Returns the result.

    `counts` are the coordinator's settings of that name. Members, ledgers and budget stay the same, so each ledger then
    covers training and count together. Raises SordinoError.
    """
    place = replace(_founded(folder, members, terms), rounds=1)
    hub = place.foundation.coordinator
    if len(_completed(place)) <= terms.rounds:
        world.write_coordinator_settings(place, _coordinator_settings(terms) | {"counts": dict(counts)})
        ask("coordinator", "count", "--folder", str(hub))
        _run(place, terms.rounds, on_progress)
    memory, made = counted_memory(folder), _completed(place)[-1]
    return {
        "plan": json.loads(memory.plan.canonical()),
        "phrases": memory.phrases,
        "threshold": memory.threshold,
        "bytes": len(memory.encode()),
        "members": made.members,
        "seconds": made.seconds,
        **_spent(place),
    }


def counted_memory(folder: Path) -> SharedMemory:
    """The result of the count in `folder`. Raises ConfigurationError if the federation has not counted."""
    hub = folder / "coordinator"
    memory = ReleaseStore(hub / "releases", Identity.load(hub).charters).shared_memory()
    if memory is None:
        raise ConfigurationError(
            f"the federation in {folder} has not counted", hint="begin with another --run"
        )
    return memory


def _founded(folder: Path, members: Mapping[str, Repository], terms: Terms) -> world.DemoWorld:
    """The federation of this profile that was founded in `folder` before, or a new one."""
    mark = folder / FOUNDED
    if mark.exists():
        return world.founded_locally(folder, parties=terms.parties, **_shape(members, terms))
    world.fresh_folder(folder)
    for name in ("logs", KEPT):
        make_folder(folder / name)
    place = world.found_locally(
        folder,
        federation="benchmark",
        parties=terms.parties,
        model=terms.model,
        privacy=terms.privacy,
        coordinator_settings=_coordinator_settings(terms),
        floors=terms.floors,
        shared_memory=terms.shared_memory,
        **_shape(members, terms),
    )
    write_file(mark, b"")
    return place


def _shape(members: Mapping[str, Repository], terms: Terms) -> dict[str, Any]:
    return {
        "repositories": {name: [member.training] for name, member in members.items()},
        "plan": json.loads(terms.plan.canonical()),
        "rounds": terms.rounds,
        "budget": terms.privacy.largest_epsilon,
        # Held-out files are already in another folder. Nobody types here, so 18 indexes would be useless.
        "member_settings": {
            "windows_per_unit": terms.windows_kept,
            "heldout_share": 0.0,
            "minimum_units": 16,
            "epsilon_if_others_collude": terms.epsilon_if_others_collude,
            "completions": False,
        },
    }


def _coordinator_settings(terms: Terms) -> dict[str, Any]:
    return {
        "train_seconds": TRAIN_SECONDS,
        "gather_seconds": GATHER_SECONDS,
        "release_without_any_heldout_measurement": True,
        "server_optimiser": terms.optimiser.model_dump(),
    }


def _run(place: world.DemoWorld, done: int, on_progress: Callable[[str], None]) -> None:
    """Runs the rounds of `place` as processes, after `done` earlier ones.

    Each release is copied when it is made, because the coordinator deletes old ones.
    """
    number = done

    def take(event: dict[str, Any]) -> None:
        nonlocal number
        if event.get("event") == "round_finished":
            on_progress(f"round {number + 1} of {done + place.rounds}: {event['outcome']}")
            if event["outcome"] == "completed":
                number += 1
                _keep_release(place, number, anew=True)

    with Processes(place.folder / "logs") as processes:
        federation = LocalFederation(
            place, processes, on_event=take, start_seconds=TRAIN_SECONDS, round_seconds=TRAIN_SECONDS
        )
        federation.start()
        on_progress(f"{len(place.repositories)} members connected")
        federation.finish()
        processes.stop()


def _spent(place: world.DemoWorld) -> dict[str, dict[str, float]]:
    """The epsilon of everything that each member took part in, from its own ledger."""
    # As `sordino client ledger` does, but in this process: most ledgers hold the same costs, and each cost is computed
    # once.
    ledgers = {name: read_ledger(home) for name, home in place.foundation.members.items()}
    return {
        "epsilon_by_member": {name: float(one["epsilon_spent"]) for name, one in ledgers.items()},
        "epsilon_if_others_collude_by_member": {
            name: float(one["epsilon_if_others_collude"]) for name, one in ledgers.items()
        },
    }


def _completed(place: world.DemoWorld) -> list[RoundView]:
    """The rounds that made a release, in this session or an earlier one."""
    state = FederationProgress()
    for event in follow_log(place.events)[0]:
        state.apply(event)
    return [one for one in state.rounds.values() if one.outcome == "completed"]


def _keep_release(place: world.DemoWorld, number: int, *, anew: bool) -> None:
    path = place.folder / KEPT / f"{number:06d}.npy"
    if anew or not path.exists():
        hub = place.foundation.coordinator
        vector = ReleaseStore(hub / "releases", Identity.load(hub).charters).vector(number)
        data = io.BytesIO()
        np.save(data, vector, allow_pickle=False)
        write_file(path, data.getvalue(), secret=True)


def _kept_release(place: world.DemoWorld, number: int) -> Vector:
    data = read_file(place.folder / KEPT / f"{number:06d}.npy", limit=MAX_VECTOR_BYTES)
    vector: Vector = np.load(io.BytesIO(data), allow_pickle=False)
    return vector


def _facts(place: world.DemoWorld, terms: Terms) -> dict[str, Any]:
    rounds, events = _completed(place), follow_log(place.events)[0]
    return {
        "epsilon_budget": terms.privacy.largest_epsilon,
        "rounds": len(rounds),
        "plan": json.loads(terms.plan.canonical()),
        "server_optimiser": terms.optimiser.model_dump(),
        "members_in_each_sum": [one.members for one in rounds],
        "noise": terms.privacy.noise,
        **_spent(place),
        "units_by_member": {
            name: int(json.loads(read_file(home / "corpus" / "prepared.json", limit=1 << 16))["units"])
            for name, home in place.foundation.members.items()
        },
        # A killed coordinator did not report its bytes.
        "starts": sum(one.get("event") == "listening" for one in events),
        "bytes": {
            way: sum(int(one[way]) for one in events if one.get("event") == "stopped")
            for way in ("received", "sent")
        },
        "seconds": sum(one.seconds for one in rounds),
    }
