"""A whole federation on one machine's disk: organisations, repositories, charter, settings. And the demo's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sordino_platform.bases import SHIPPED
from sordino_platform.charter import (
    FloorTerms,
    HuggingFaceTerms,
    ModelTerms,
    PrivacyPolicy,
    SharedMemoryPolicy,
)
from sordino_platform.durable import make_folder, write_file
from sordino_platform.identity import Identity
from sordino_platform.identity.ceremony import Foundation, found_in_folder
from sordino_platform.settings import toml_text
from sordino_platform.suggested import affordable_noise
from sordino_platform.terms.chosen import model_of
from sordino_privacy.accounting import SampledGaussian
from sordino_privacy.errors import ConfigurationError, DataError, SordinoError

# (member, organisation): five companies that would never show each other their code.
PARTIES = (
    ("aurora", "Aurora Robotics"),
    ("borealis", "Borealis Bank"),
    ("cascade", "Cascade Energy"),
    ("delta", "Delta Health"),
    ("ember", "Ember Logistics"),
)
ROUNDS_PER_DAY = 1000
ADAPTER_RANK = 1
EPSILON_BUDGET = 8.0
EPSILON_PLANNED = 7.5
LEAST_NOISE = 0.6
DELTA = 1e-6
# For repositories of a few hundred files and a few minutes on two cores. Few trained parameters (adapters of rank 1,
# norms, output bias: 25,216), because the noise grows with the square root of their number; plain SGD, because Adam
# amplifies the noise of coordinates that carry no signal. Tried on this corpus: docs/demo.md.
PLAN: dict[str, object] = {
    "sampling_rate": 0.2,
    "clip_norm": 0.2,
    "steps": 2,
    "windows_per_unit": 1,
    "window": 192,
    "learning_rate": 0.2,
    "optimiser": "sgd",
    "delta": DELTA,
    "expected_units": 64,
}
# The first round counts phrases of the field, and the others train; both add their noise in shares: a sum of three
# honest members, the charter's floor, carries it. One step a round, at twice the rate.
SHARED_PLAN: dict[str, object] = {**PLAN, "steps": 1, "learning_rate": 0.4}
COUNTS: dict[str, object] = {
    "phrases": 150,
    "noise_multiplier": 1.0,
    "window": PLAN["window"],
    "windows_per_unit": 1,
    "expected_units": 400,
    "delta": DELTA,
}
# What the demo's members agree to, should all others collude with the coordinator.
AGREED_IF_OTHERS_COLLUDE = 40.0
# On a larger base a token costs forty times as much: fewer units, one step a round, and time for them. The rate is
# lower because rank 1 on every layer of SmolLM2 is twelve times as many numbers, each with its noise.
BASE_PLAN: dict[str, object] = {
    **PLAN,
    "sampling_rate": 0.04,
    "steps": 1,
    "window": 128,
    "learning_rate": 0.05,
    "expected_units": 12,
}
BASE_TRAIN_SECONDS, BASE_HELDOUT_TOKENS, BASE_MEMORY_GB = 1500.0, 3_000, 3.0
SHARE_BYTES = 4_000_000
# The public code that measures releases: small projects of many kinds, for a gain on one of them says nothing.
HELDOUT_SHARES, HELDOUT_SHARE_BYTES = 8, 1_000_000
HELDOUT_TOKENS = 24_000
MARKER = "sordino-demo.json"
MEMBER_SETTINGS: dict[str, object] = {"windows_per_unit": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Who joins later: its first files, and what it is measured on."""

    name: str
    first: Path
    heldout: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Repositories by member, public folders that measure releases, and who joins later, where there is one."""

    repositories: Mapping[str, Sequence[Path]]
    measuring: Sequence[Path]
    newcomer: Newcomer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoWorld:
    """Where everything of one federation on this machine is. `member_settings` are the same for every member; with
    `counts` its first round counts phrases."""

    folder: Path
    foundation: Foundation
    parties: tuple[tuple[str, str], ...]
    repositories: Mapping[str, Sequence[Path]]
    plan: Mapping[str, object]
    rounds: int
    budget: float
    member_settings: Mapping[str, object] = field(default_factory=dict)
    newcomer: Newcomer | None = None
    counts: bool = False

    @property
    def proofs(self) -> Path:
        """Where members keep their quantised updates under `--prove`."""
        return self.folder / "proofs"

    @property
    def events(self) -> Path:
        """The coordinator's event file."""
        return self.foundation.coordinator / "events.jsonl"


def choose_cast(folder: Path, chosen: list[Path]) -> Cast:
    """Who takes part with which code; no file belongs to two of them.

    Without any chosen, services of one platform, fetched by name and hash; offline, the source trees of Python packages
    that are installed here. Raises DataError.
    """
    names = [name for name, _ in PARTIES]
    if chosen:
        if len(chosen) < len(PARTIES):
            raise DataError(
                f"{len(chosen)} repositories are too few for {len(PARTIES)} members",
                hint=f"give --repo {len(PARTIES)} times or more, or leave it out to use public ones",
            )
        repositories = {
            name: [path.resolve() for path in chosen[i :: len(names)]] for i, name in enumerate(names)
        }
        return Cast(repositories=repositories, measuring=public(repositories))
    return _one_field(folder, names) or _installed_cast(folder, names)


def _one_field(folder: Path, names: Sequence[str]) -> Cast | None:
    """Services of one platform; None where their wheels cannot be had."""
    found = _demonstration("repositories", "--folder", str(folder / "repositories"))
    if found is None:
        return None
    return Cast(
        repositories={
            name: [Path(path) for path in paths] for name, paths in zip(names, found["members"], strict=True)
        },
        measuring=[Path(path) for path in found["measuring"]],
        newcomer=_newcomer(found["newcomer"]),
    )


def _installed_cast(folder: Path, names: Sequence[str]) -> Cast:
    """Installed packages; the share that is left over is the newcomer's."""
    *shares, last = installed(len(names) + 1)
    repositories = dict(zip(names, shares, strict=True))
    words = [word for path in last for word in ("--repo", str(path))]
    split = _demonstration("split", "--folder", str(folder / "newcomer"), *words)
    held = [path for path in public(repositories) if path not in last]
    newcomer = None if split is None else _newcomer(split | {"name": last[0].name})
    return Cast(repositories=repositories, measuring=held, newcomer=newcomer)


def _newcomer(found: Mapping[str, str]) -> Newcomer:
    return Newcomer(name=found["name"], first=Path(found["first"]), heldout=Path(found["heldout"]))


def _demonstration(*words: str) -> dict[str, Any] | None:
    """The client's part of the demo, as a command; None where it could not be done."""
    command = [sys.executable, "-P", "-m", "sordino_client.laboratory.field_benchmark.demonstration", *words]
    # Offline, pip would try again and again.
    environment = {**os.environ, "PIP_RETRIES": "0", "PIP_TIMEOUT": "10", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_newcomer(place: DemoWorld) -> dict[str, Any] | None:
    """What the newest release brings to who joins now; None where nobody does. See the client's demonstration."""
    if place.newcomer is None:
        return None
    words = ["--coordinator", place.foundation.coordinator, "--first", place.newcomer.first]
    words += ["--heldout", place.newcomer.heldout, "--scratch", place.folder / "newcomer" / "memory"]
    for paths in place.repositories.values():
        words += [word for path in paths for word in ("--member", path)]
    found = _demonstration("newcomer", *map(str, words))
    return None if found is None else found | {"name": place.newcomer.name}


def shipped_repositories(names: Sequence[str]) -> tuple[dict[str, list[Path]], list[Path]]:
    """Installed packages as the repositories of these members, and public folders beside them. Raises DataError."""
    repositories = dict(zip(names, installed(len(names)), strict=True))
    return repositories, public(repositories)


def public(repositories: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Installed packages that are in none of the repositories: they measure releases. Raises DataError."""
    held = {path for share in repositories.values() for path in share}
    shares = installed(HELDOUT_SHARES, share_bytes=HELDOUT_SHARE_BYTES)
    return sorted({path for share in shares for path in share} - held)


def installed(shares: int, *, share_bytes: int = SHARE_BYTES) -> list[list[Path]]:
    """Disjoint lists of installed packages' folders of about equal size, by the member's own command."""
    sizes = ["--shares", str(shares), "--share-bytes", str(share_bytes), "--json"]
    command = [sys.executable, "-P", "-m", "sordino_platform.cli", "client", "installed", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"cannot find installed packages: {done.stderr.strip().removeprefix('error: ')}")
    return [[Path(path) for path in share] for share in json.loads(done.stdout)]


def fresh_folder(folder: Path) -> None:
    """Makes an empty folder for a federation; replaces an older one's, and nothing else. Raises ConfigurationError."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise ConfigurationError(
                f"{folder} is not empty and not a demo's folder", hint="choose another with --folder"
            )
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    make_folder(folder)
    write_file(folder / MARKER, b'{"made by": "sordino demo"}\n')


def build(folder: Path, *, rounds: int, prove: bool, chosen: list[Path], base: str = SHIPPED) -> DemoWorld:
    """The demo's federation, on a base of `sordino base list`. Raises SordinoError of all kinds."""
    model = model_of(base, {"adapter_rank": ADAPTER_RANK})
    small = isinstance(model, ModelTerms)
    cast = choose_cast(folder, chosen)
    coordinator = coordinator_settings(cast.measuring)
    members = dict(MEMBER_SETTINGS)
    privacy = PrivacyPolicy(largest_epsilon=EPSILON_BUDGET, smallest_noise_multiplier=LEAST_NOISE)
    if small:
        privacy = PrivacyPolicy(**privacy.model_dump() | {"noise": "distributed", "largest_steps": 1})
        coordinator |= {"counts": COUNTS}
        members |= {"epsilon_if_others_collude": AGREED_IF_OTHERS_COLLUDE}
    else:
        coordinator |= {"train_seconds": BASE_TRAIN_SECONDS, "heldout_tokens": BASE_HELDOUT_TOKENS}
        members |= {"base_model": base, "training_memory_gb": BASE_MEMORY_GB}
    place = found_locally(
        folder,
        federation="demo",
        parties=PARTIES,
        repositories=cast.repositories,
        model=model,
        privacy=privacy,
        plan=plan_for(rounds, SHARED_PLAN, counts=COUNTS) if small else plan_for(rounds, BASE_PLAN),
        rounds=rounds,
        shared_memory=SharedMemoryPolicy() if small else None,
        coordinator_settings={**coordinator, "keep_opened_sums_for_a_proof": prove},
        member_settings=members
        | ({"keep_quantised_updates_for_a_proof_on_this_machine": str(folder / "proofs")} if prove else {}),
    )
    # What joining brings a newcomer is measured on the base that ships only, and phrases are counted in its tokens.
    return replace(place, newcomer=cast.newcomer if small else None, counts=small)


def coordinator_settings(heldout: Sequence[Path]) -> dict[str, object]:
    """What the coordinator of a few minutes' federation on one machine is set to."""
    return {
        "train_seconds": 240.0,
        "exchange_seconds": 15.0,
        "console": "127.0.0.1:0",
        "heldout": [str(path) for path in heldout],
        "heldout_tokens": HELDOUT_TOKENS,
    }


def found_locally(
    folder: Path,
    *,
    federation: str,
    parties: Sequence[tuple[str, str]],
    repositories: Mapping[str, Sequence[Path]],
    model: ModelTerms | HuggingFaceTerms,
    privacy: PrivacyPolicy,
    plan: Mapping[str, object],
    rounds: int,
    coordinator_settings: Mapping[str, object],
    member_settings: Mapping[str, object],
    budget: float | None = None,
    floors: FloorTerms | None = None,
    shared_memory: SharedMemoryPolicy | None = None,
) -> DemoWorld:
    """Runs the founding ceremony for these members and this model, and writes the coordinator's settings.

    `parties` is (name, organisation); each spends `budget`, or what the charter allows. Without `floors` every round is
    of all of them, and without `shared_memory` none counts. Raises SordinoError of all kinds.
    """
    foundation = found_in_folder(
        folder,
        federation=federation,
        members=parties,
        model=model,
        floors=floors or FloorTerms(cohort=len(parties), organisations=3),
        privacy=privacy,
        shared_memory=shared_memory,
    )
    place = DemoWorld(
        folder=folder,
        foundation=foundation,
        parties=tuple(parties),
        repositories=repositories,
        plan=plan,
        rounds=rounds,
        budget=privacy.largest_epsilon if budget is None else budget,
        member_settings=member_settings,
    )
    write_coordinator_settings(place, coordinator_settings)
    return place


def founded_locally(
    folder: Path,
    *,
    parties: Sequence[tuple[str, str]],
    repositories: Mapping[str, Sequence[Path]],
    plan: Mapping[str, object],
    rounds: int,
    budget: float,
    member_settings: Mapping[str, object],
) -> DemoWorld:
    """What `found_locally` founded in `folder` before, to go on with it. Raises ConfigurationError, StorageError."""
    hub = folder / "coordinator"
    identity = Identity.load(hub)
    return DemoWorld(
        folder=folder,
        foundation=Foundation(
            root=folder / "root",
            root_fingerprint=identity.charters.root,
            charter=identity.charter,
            coordinator=hub,
            members={name: folder / "members" / name for name, _ in parties},
        ),
        parties=tuple(parties),
        repositories=repositories,
        plan=plan,
        rounds=rounds,
        budget=budget,
        member_settings=member_settings,
    )


def write_coordinator_settings(place: DemoWorld, chosen: Mapping[str, object]) -> None:
    """The coordinator's settings: these, over what suits a federation on one machine, for the rounds of `place`."""
    settings: dict[str, object] = {
        "version": 1,
        "listen": "127.0.0.1:0",
        "rounds": place.rounds,
        "give_up_after": 3,
        "backoff_seconds": 2.0,
        "gather_seconds": 5.0,
        **chosen,
        "plan": dict(place.plan),
    }
    write_file(
        place.foundation.coordinator / "coordinator.toml",
        toml_text(settings, comments={}).encode(),
        secret=True,
    )


def plan_for(
    rounds: int, plan: Mapping[str, object] = PLAN, *, counts: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The demo's plan with the noise that `rounds` rounds and a spare can afford; with `counts`, one of them counts."""
    steps, beside = int(str(plan["steps"])) * (rounds + 1), []
    if counts is not None:
        noise = float(str(counts["noise_multiplier"]))
        beside = [SampledGaussian(sampling_rate=1.0, noise_multiplier=noise, steps=1)]
        steps -= int(str(plan["steps"]))
    noise = affordable_noise(
        float(str(plan["sampling_rate"])), steps, within=EPSILON_PLANNED, least=LEAST_NOISE, beside=beside
    )
    return {**plan, "noise_multiplier": noise}


def write_member_settings(world: DemoWorld, *, address: str) -> None:
    """Every member's settings, once the coordinator's address is known."""
    for name, place in world.foundation.members.items():
        settings: dict[str, object] = {
            "version": 1,
            "name": name,
            "coordinator": address,
            "repositories": [str(path) for path in world.repositories[name]],
            "budget_epsilon": world.budget,
            # A federation of minutes: its whole budget may go in one day.
            "epsilon_per_day": world.budget,
            "rounds_per_day": ROUNDS_PER_DAY,
            # The same packages may be tried in many such federations: they share no budget with anything.
            "budgets_folder": str(world.folder / "budgets"),
            "window": world.plan["window"],
            "training_slots": str(world.folder / "slots"),
            **world.member_settings,
        }
        write_file(place / "member.toml", toml_text(settings, comments={}).encode(), secret=True)


def read_address(world: DemoWorld) -> str:
    """Where the coordinator listens, or an empty string while it has not said so since `forget_address`."""
    path = _address(world)
    return path.read_text().strip() if path.exists() else ""


def forget_address(world: DemoWorld) -> None:
    """Before a coordinator is started: where an earlier one listened says nothing about it."""
    _address(world).unlink(missing_ok=True)


def _address(world: DemoWorld) -> Path:
    return world.foundation.coordinator / "address"


def require_rounds(rounds: int) -> None:
    """Raises SordinoError for a number of rounds that the demo cannot show."""
    if not 2 <= rounds <= 100:
        raise SordinoError("the demo runs 2 to 100 rounds", hint="in one of them a member is killed")
