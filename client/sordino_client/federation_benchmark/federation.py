"""The real federation of the benchmark: every party a process of its own, over mutual TLS, sums opened once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sordino_client.federation_benchmark.profile import PLANNED_SHARE, Profile
from sordino_client.federation_benchmark.repositories import Repository
from sordino_platform.architecture import Vector
from sordino_platform.charter import FloorTerms, ModelTerms, PrivacyPolicy
from sordino_platform.demo import world
from sordino_platform.demo.local import LocalFederation, ask
from sordino_platform.demo.processes import Processes
from sordino_platform.durable import make_folder, read_file
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_platform.suggested import affordable_noise
from sordino_privacy.dpsgd import TrainingPlan

LEAST_NOISE = 0.5
TRAIN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationRun:
    """What a federation left: the vector of each release, and the facts of the run (JSON)."""

    releases: tuple[Vector, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a benchmark's federation is founded on and does.

    `privacy` bounds every member, `windows_kept` are kept of a unit; without `floors` every round is of all members.
    `epsilon_if_others_collude` is what each owner agrees to where noise is added in shares.
    """

    parties: tuple[tuple[str, str], ...]
    model: ModelTerms
    privacy: PrivacyPolicy
    plan: TrainingPlan
    rounds: int
    optimiser: ServerOptimiser
    windows_kept: int
    floors: FloorTerms | None = None
    epsilon_if_others_collude: float = 0.0


def terms_within(profile: Profile, epsilon: float) -> Terms:
    """The profile's federation at a budget of `epsilon` for each member."""
    schedule = profile.schedule(epsilon)
    return Terms(
        parties=profile.parties,
        model=profile.model,
        privacy=PrivacyPolicy(largest_epsilon=epsilon, smallest_noise_multiplier=LEAST_NOISE),
        plan=plan_within(profile, epsilon, rounds=schedule.rounds),
        rounds=schedule.rounds,
        optimiser=schedule.optimiser,
        windows_kept=profile.windows_kept,
    )


def plan_within(profile: Profile, epsilon: float, *, rounds: int) -> TrainingPlan:
    """The profile's plan with the smallest noise that `rounds` rounds can afford within `epsilon`."""
    noise = affordable_noise(
        profile.sampling_rate,
        profile.steps * rounds,
        within=epsilon * PLANNED_SHARE,
        least=LEAST_NOISE,
    )
    return TrainingPlan(
        sampling_rate=profile.sampling_rate,
        noise_multiplier=noise,
        clip_norm=profile.clip_norm,
        steps=profile.steps,
        windows_per_unit=profile.windows_per_unit,
        window=profile.window,
        learning_rate=profile.learning_rate,
        optimiser="sgd",
        delta=world.DELTA,
        expected_units=profile.expected_units,
    )


def federate(
    folder: Path,
    members: Mapping[str, Repository],
    terms: Terms,
    *,
    on_progress: Callable[[str], None],
) -> FederationRun:
    """Founds a federation in `folder`, runs its rounds, and ends every process. Raises SordinoError.

    Every member is a process all the while, and trains in a child; one child at a time, since they share a machine.
    """
    world.fresh_folder(folder)
    logs = folder / "logs"
    make_folder(logs)
    place = world.found_locally(
        folder,
        federation="benchmark",
        parties=terms.parties,
        repositories={name: [member.training] for name, member in members.items()},
        model=terms.model,
        privacy=terms.privacy,
        plan=json.loads(terms.plan.canonical()),
        rounds=terms.rounds,
        coordinator_settings={
            "train_seconds": TRAIN_SECONDS,
            "release_without_any_heldout_measurement": True,
            "server_optimiser": terms.optimiser.model_dump(),
        },
        # What is held out lies in another folder already.
        member_settings={
            "windows_per_unit": terms.windows_kept,
            "heldout_share": 0.0,
            "minimum_units": 16,
            "epsilon_if_others_collude": terms.epsilon_if_others_collude,
        },
        floors=terms.floors,
    )

    releases: list[Vector] = []

    def take(event: dict[str, Any]) -> None:
        """Keeps each release as it is made: the coordinator prunes the weights of old ones."""
        if event.get("event") == "round_finished":
            on_progress(f"round {event['round']} of {terms.rounds}: {event['outcome']}")
            if event["outcome"] == "completed":
                hub = place.foundation.coordinator
                releases.append(ReleaseStore(hub / "releases", Identity.load(hub).charters).vector())

    with Processes(logs) as processes:
        federation = LocalFederation(
            place, processes, on_event=take, start_seconds=TRAIN_SECONDS, round_seconds=TRAIN_SECONDS
        )
        federation.start()
        on_progress(f"{len(members)} members connected")
        federation.finish()
        processes.stop()
    state = federation.state
    ledgers = {
        name: ask("client", "ledger", "--folder", str(home))
        for name, home in place.foundation.members.items()
    }
    return FederationRun(
        releases=tuple(releases),
        facts={
            "epsilon_budget": terms.privacy.largest_epsilon,
            "rounds": state.completed,
            "plan": json.loads(terms.plan.canonical()),
            "server_optimiser": terms.optimiser.model_dump(),
            "members_in_each_sum": [one.members for one in state.rounds.values()],
            "noise": terms.privacy.noise,
            "epsilon_by_member": {name: float(one["epsilon_spent"]) for name, one in ledgers.items()},
            "epsilon_if_others_collude_by_member": {
                name: float(one["epsilon_if_others_collude"]) for name, one in ledgers.items()
            },
            "units_by_member": {
                name: int(json.loads(read_file(home / "corpus" / "prepared.json", limit=1 << 16))["units"])
                for name, home in place.foundation.members.items()
            },
            "bytes": state.traffic,
            "seconds": sum(one.seconds for one in state.rounds.values()),
        },
    )
