"""The founded federation of a simulation: real keys, a real charter, a real ledger for each virtual member."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from sordino_client.laboratory.simulation.code import CodeShares
from sordino_client.laboratory.written import write_texts
from sordino_platform.architecture import trainable_shapes
from sordino_platform.charter import FloorTerms, PrivacyPolicy, shipped_model
from sordino_platform.demo.world import fresh_folder
from sordino_platform.durable import make_folder, write_file
from sordino_platform.identity.ceremony import found_in_folder
from sordino_platform.settings import toml_text
from sordino_platform.suggested import Training, suggested_training
from sordino_privacy.secagg.membership import Floors

CLUSTERS_A_FILE: Final = 0.8
"""The approximate number of file clusters per file. The plan is chosen for the number that a founder would expect."""
HELDOUT_TOKENS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedFederation:
    """The federation's folder, the training of each round, the charter's budget and the number of parameters."""

    folder: Path
    training: Training
    budget: float
    parameters: int

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder."""
        return self.folder / "coordinator"


def prepare_simulation(
    folder: Path,
    shares: CodeShares,
    *,
    rounds: int,
    rank: int,
    phase_seconds: float,
    say: Callable[[str], None] = lambda _: None,
) -> SimulatedFederation:
    """Founds the federation of `shares` in an empty `folder`. Raises any SordinoError."""
    fresh_folder(folder)
    members = len(shares.members)
    names = [f"member-{number:04d}" for number in range(members)]
    say(f"founding {members} members")
    privacy, model = PrivacyPolicy(), shipped_model(adapter_rank=rank)
    foundation = found_in_folder(
        folder,
        federation="simulation",
        members=[(name, f"Organisation {name[-4:]}") for name in names],
        model=model,
        floors=FloorTerms(cohort=smallest_cohort(members)),
        privacy=privacy,
    )
    clusters = round(CLUSTERS_A_FILE * sum(map(len, shares.members)))
    training = suggested_training(privacy, context=model.context, members=members, clusters=clusters)
    for name, files in shares.heldout.items():
        write_texts(folder / "heldout" / name, {file.path: file.text for file in files})
    settings: dict[str, object] = {
        "version": 1,
        "rounds": rounds,
        "give_up_after": 2,
        "backoff_seconds": 0.0,
        "gather_seconds": 60.0,
        "train_seconds": phase_seconds,
        "exchange_seconds": phase_seconds,
        "heldout": [str(folder / "heldout")],
        "heldout_tokens": HELDOUT_TOKENS,
        "server_optimiser": training.optimiser.model_dump(),
        "plan": asdict(training.plan),
    }
    write_file(
        foundation.coordinator / "coordinator.toml", toml_text(settings, comments={}).encode(), secret=True
    )
    for (name, place), files in zip(foundation.members.items(), shares.members, strict=True):
        code = folder / "code" / name
        make_folder(code)
        write_texts(code, {file.path: file.text for file in files})
        write_file(
            place / "member.toml",
            toml_text(member_settings(folder, name, training), comments={}).encode(),
            secret=True,
        )
    return SimulatedFederation(
        folder=folder,
        training=training,
        budget=privacy.largest_epsilon,
        parameters=sum(math.prod(shape) for shape in trainable_shapes(model.config()).values()),
    )


def smallest_cohort(members: int) -> int:
    """Three fifths of the members, and at least enough for all that may collude."""
    floors = Floors()
    return max(3, floors.gamma_permille * members // 1000 + floors.honest, members * 3 // 5)


def member_settings(folder: Path, name: str, training: Training) -> dict[str, object]:
    """A virtual member's settings file. It may spend the whole budget in one day, as a simulation has only one."""
    return {
        "version": 1,
        "name": name,
        "coordinator": "flower:0",
        "repositories": [str(folder / "code" / name)],
        "minimum_units": 1,
        "heldout_share": 0.0,
        "completions": False,  # a model to serve would need 40 MB of disk for each member
        "window": training.plan.window,
        "windows_per_unit": training.plan.windows_per_unit,
        "budget_epsilon": 1000.0,
        "epsilon_per_day": 1000.0,
        "rounds_per_day": 1000,
        "budgets_folder": str(
            folder / "budgets"
        ),  # the same code may be simulated often, so this machine's budget does not apply
        "training_slots": str(folder / "slots"),
    }
