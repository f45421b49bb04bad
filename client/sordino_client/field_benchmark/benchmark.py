"""The field's benchmark from the first stage to the last, in order."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_client.federation_benchmark import contenders
from sordino_client.federation_benchmark.benchmark import curve_rounds
from sordino_client.federation_benchmark.contenders import Windows
from sordino_client.federation_benchmark.federation import federate
from sordino_client.federation_benchmark.private import train_alone
from sordino_client.federation_benchmark.repositories import Repository
from sordino_client.federation_benchmark.stages import Facts, Stages
from sordino_client.field_benchmark import repositories
from sordino_client.field_benchmark.knowledge import (
    Knowledge,
    knowledge_of_member,
    knowledge_of_newcomer,
    others_text,
)
from sordino_client.field_benchmark.party import Models, measure_party, own_windows
from sordino_client.field_benchmark.profile import EPSILONS, FieldProfile
from sordino_client.field_benchmark.terms import plan_alone, terms_within
from sordino_client.laboratory.pretrain.corpus import read_corpus
from sordino_client.training.job import Tokens
from sordino_platform import base
from sordino_platform.architecture import Parameters, Vector, merged, unflatten
from sordino_platform.evaluation import Measurement, Plan
from sordino_platform.founding_model import founding_parameters
from sordino_platform.model import build

SEED = 20261129
UNPRIVATE_RATE = 1e-3  # of the members' Adam where nothing is private
CURVE_TOKENS, CURVE_TOKENS_PER_FILE = 1000, 500
CENTRAL, AVERAGED = "central", "federation_without_privacy"


class FieldBenchmark:
    """One run in a folder. `run` returns every stage's facts by its name."""

    def __init__(
        self, folder: Path, cache: Path, profile: FieldProfile, *, on_progress: Callable[[str], None]
    ) -> None:
        torch.set_num_threads(1)
        self._folder, self._cache, self._profile, self._say = folder, cache, profile, on_progress
        self._config, self._tokenizer, self._base = base.load()
        self._adapted = profile.model.config()
        self._founding = founding_parameters(profile.model)
        self._stages = Stages(folder, profile, base_sha256=base.card()["sha256"], on_progress=on_progress)
        everybody = repositories.places(folder / "repositories", profile)
        self._members = {name: everybody[name] for name, _ in profile.training}
        self._newcomers = {name: everybody[name] for name in profile.joining}
        self._first_files = repositories.beginnings(folder / "repositories", profile)
        self._others: MeasuredMemory | None = None

    def run(self) -> dict[str, Facts]:
        """Does what is not done yet. Raises SordinoError of all kinds."""
        stages = self._stages
        facts: dict[str, Facts] = {"repositories": stages.done("repositories", self._write)}
        for epsilon in EPSILONS:
            name = federation_name(epsilon)
            facts[name] = stages.done(name, partial(self._federation, name, epsilon))
        facts[CENTRAL] = stages.done(CENTRAL, self._central)
        facts[AVERAGED] = stages.done(AVERAGED, self._averaged)
        for name in self._members:
            facts[alone(name)] = stages.done(alone(name), partial(self._alone, name))
        for name in (*self._members, *self._newcomers):
            facts[party(name)] = stages.done(party(name), partial(self._party, name))
        return facts

    # --------------------------------------------------------------------------------------------------- the stages

    def _write(self) -> tuple[Facts, Mapping[str, Parameters]]:
        documents = read_corpus(self._cache, self._profile.role)
        found = repositories.write(self._folder / "repositories", documents, self._profile)
        return {"parties": found}, {}

    def _federation(self, name: str, epsilon: float) -> tuple[Facts, Mapping[str, Parameters]]:
        gc.collect()  # tensors of earlier stages would lie in memory beside all the processes
        run = federate(
            self._folder / name,
            self._members,
            terms_within(self._profile, epsilon),
            on_progress=lambda line: self._say(f"{name}: {line}"),
        )
        curve = self._curve(run.releases)
        return {"curve": curve, "run": dict(run.facts)}, {"released": self._plain(run.releases[-1])}

    def _central(self) -> tuple[Facts, Mapping[str, Parameters]]:
        profile = self._profile
        found = [own_windows(one, self._config, self._tokenizer, profile) for one in self._members.values()]
        data = Windows(
            windows=tuple(window for one in found for window in one.windows),
            window=profile.central_window,
            config=self._config,
        )
        trained = contenders.train_on(data, self._base, tokens=profile.central_tokens, seed=SEED)
        return {}, {"released": trained}

    def _averaged(self) -> tuple[Facts, Mapping[str, Parameters]]:
        profile = self._profile
        members = {
            name: Windows.of(self._units_of(name), window=profile.window, config=self._adapted)
            for name in self._members
        }
        releases = contenders.average_members_without_any_privacy_for_comparison(
            members,
            self._adapted,
            self._founding,
            rounds=profile.averaging_rounds,
            tokens_per_round=profile.central_tokens // len(members) // profile.averaging_rounds,
            rate=UNPRIVATE_RATE,
            seed=SEED,
        )
        return {"curve": self._curve(releases)}, {"released": self._plain(releases[-1])}

    def _alone(self, name: str) -> tuple[Facts, Mapping[str, Parameters]]:
        schedule = self._profile.alone
        plan = plan_alone(self._profile, EPSILONS[0])
        trained = train_alone(
            self._units_of(name),
            self._adapted,
            self._founding,
            plan,
            schedule.optimiser,
            rounds=schedule.rounds,
        )
        return {}, {"released": merged(trained)}

    def _party(self, name: str) -> tuple[Facts, Mapping[str, Parameters]]:
        federated = {
            federation_name(epsilon): self._released(federation_name(epsilon)) for epsilon in EPSILONS
        }
        plain = {
            "base": self._base,
            CENTRAL: self._released(CENTRAL),
            AVERAGED: self._released(AVERAGED),
            **federated,
        }
        place = self._folder / "memory" / name
        if name in self._members:
            plain["alone"] = self._released(alone(name))
            whole = self._members[name]
            memories = knowledge_of_member(place, whole, self._tokenizer)
            learnt: dict[Knowledge, Repository] = {"all": whole}
        else:
            whole, first = self._newcomers[name], self._first_files[name]
            memories = knowledge_of_newcomer(place, first, whole, self._others_text(), self._tokenizer)
            learnt = {"few": first, "all": whole}
        facts = measure_party(
            name,
            whole,
            learnt,
            memories,
            Models(config=self._config, plain=plain, adapted=("base", *federated)),
            self._tokenizer,
            self._profile,
            on_progress=self._say,
        )
        return facts, {}

    # --------------------------------------------------------------------------------------------------- their means

    def _curve(self, releases: Sequence[Vector]) -> list[tuple[int, float]]:
        """(round, bits per byte of the model alone, mean over the newcomers), the base as round 0."""
        plan = Plan(tokens=CURVE_TOKENS, tokens_per_file=CURVE_TOKENS_PER_FILE, lines=0)
        texts = {name: one.texts() for name, one in self._newcomers.items()}
        measurement = Measurement(self._tokenizer, texts, plan)

        def bits(parameters: Parameters) -> float:
            columns = measurement.columns_of_model(build(self._config, parameters).eval())
            return fmean(sum(one.bits) / sum(one.sizes) for one in columns.values())

        points = [(0, bits(self._base))]
        return points + [
            (number, bits(self._plain(releases[number - 1]))) for number in curve_rounds(len(releases))
        ]

    def _plain(self, vector: Vector) -> dict[str, Vector]:
        """A federation's release with its adapters folded in."""
        return merged(unflatten(self._adapted, self._founding, vector))

    def _released(self, stage: str) -> Parameters:
        return self._stages.model(stage, "released")

    def _units_of(self, name: str) -> list[list[Tokens]]:
        profile = self._profile
        return self._members[name].units(
            self._tokenizer, window=profile.window, windows_per_unit=profile.windows_kept
        )

    def _others_text(self) -> MeasuredMemory:
        if self._others is None:
            self._others = others_text(self._folder / "memory" / "others", self._members, self._tokenizer)
        return self._others


def federation_name(epsilon: float) -> str:
    """The stage, and the contender, of a federation."""
    return f"federation_eps{epsilon:g}"


def alone(name: str) -> str:
    """The stage of a member that trains privately by itself."""
    return f"alone.{name}"


def party(name: str) -> str:
    """The stage that measures a party."""
    return f"party.{name}"
