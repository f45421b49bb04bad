"""Runs the stages of the benchmark in order."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from sordino_client.laboratory.federation_benchmark import contenders
from sordino_client.laboratory.federation_benchmark.contenders import Windows
from sordino_client.laboratory.federation_benchmark.federation import federate
from sordino_client.laboratory.federation_benchmark.measuring import Worth
from sordino_client.laboratory.federation_benchmark.models import BenchmarkModels, Units
from sordino_client.laboratory.federation_benchmark.profile import EPSILONS, Profile
from sordino_client.laboratory.federation_benchmark.repositories import (
    Repository,
    repository_places,
    write_repositories,
)
from sordino_client.laboratory.federation_benchmark.stages import Facts, Stages
from sordino_client.laboratory.federation_benchmark.terms import plan_within, terms_within
from sordino_client.laboratory.pretrain.corpus import read_corpus
from sordino_platform.architecture import Parameters, Vector

SEED = 20261125
CURVE_POINTS = 6


class Benchmark:
    """One run in a folder. `run` returns every stage's facts by its name."""

    def __init__(
        self, folder: Path, cache: Path, profile: Profile, *, on_progress: Callable[[str], None]
    ) -> None:
        self._folder, self._cache, self._profile, self._say = folder, cache, profile, on_progress
        self._models = models = BenchmarkModels(profile)
        self._stages = Stages(folder, profile, base_sha256=models.base_sha256, on_progress=on_progress)
        self._members: dict[str, Repository] = repository_places(folder / "repositories", profile)
        self._units: dict[tuple[str, int], Units] = {}
        self._worth: Worth | None = None

    def run(self) -> dict[str, Facts]:
        """Runs the stages that are not finished. Raises any SordinoError."""
        profile, stages = self._profile, self._stages
        facts: dict[str, Facts] = {"repositories": stages.done("repositories", self._write)}
        facts["memory"] = stages.done("memory", lambda: (self._measurer().of_memory(), {}))
        facts["base"] = stages.done(
            "base", lambda: (self._measurer().of(self._models.config, self._models.base, lines=True), {})
        )
        facts["central"] = stages.done("central", self._central)
        for epsilon in EPSILONS:
            for repeat in range(profile.repeats if epsilon == EPSILONS[0] else 1):
                name = federation_name(epsilon, repeat)
                facts[name] = stages.done(name, partial(self._federation, name, epsilon))
        facts["federation_without_privacy"] = stages.done(
            "federation_without_privacy", self._unprivate_federation
        )
        for epsilon in EPSILONS:
            facts |= self._by_member(alone_name(epsilon), partial(self._private_alone, epsilon))
        facts |= self._by_member("alone_without_privacy", self._alone)
        facts |= self._by_member("base_own", partial(self._own, self._models.base))
        for epsilon in EPSILONS:
            name = federation_name(epsilon, 0)
            model = stages.model(name, "released")
            facts |= self._by_member(f"{name}_own", partial(self._own, model))
        return facts

    # --------------------------------------------------------------------------------------------------- the stages

    def _write(self) -> tuple[Facts, Mapping[str, Parameters]]:
        documents = read_corpus(self._cache, "members")
        return {"members": write_repositories(self._folder / "repositories", documents, self._profile)}, {}

    def _central(self) -> tuple[Facts, Mapping[str, Parameters]]:
        profile = self._profile
        units = [unit for name in self._members for unit in self._units_of(name, profile.central_window)]
        data = Windows.of(units, window=profile.central_window, config=self._models.config)
        trained = contenders.train_on(data, self._models.base, tokens=profile.central_tokens, seed=SEED)
        return self._measurer().of(self._models.config, trained, lines=True), {"released": trained}

    def _federation(self, name: str, epsilon: float) -> tuple[Facts, Mapping[str, Parameters]]:
        # Otherwise units and tensors of earlier stages would use memory beside the seventeen processes.
        self._units.clear()
        gc.collect()
        run = federate(
            self._folder / name,
            self._members,
            terms_within(self._profile, epsilon),
            on_progress=lambda line: self._say(f"{name}: {line}"),
        )
        released = self._models.plain(run.releases[-1])
        facts = self._measurer().of(
            self._models.config, released, lines=name == federation_name(EPSILONS[0], 0)
        )
        return facts | {"curve": self._curve(run.releases), "run": dict(run.facts)}, {"released": released}

    def _unprivate_federation(self) -> tuple[Facts, Mapping[str, Parameters]]:
        profile = self._profile
        units = {name: self._units_of(name, profile.window) for name in self._members}
        releases = self._models.average_members_without_any_privacy_for_comparison(units, seed=SEED)
        released = self._models.plain(releases[-1])
        facts = self._measurer().of(self._models.config, released)
        return facts | {"curve": self._curve(releases)}, {"released": released}

    def _private_alone(self, epsilon: float, name: str) -> Parameters:
        profile = self._profile
        plan = plan_within(profile, epsilon, rounds=profile.scarce.rounds)
        return self._models.privately_alone(self._units_of(name, profile.window), plan, profile.scarce)

    def _alone(self, name: str) -> Parameters:
        profile = self._profile
        data = Windows.of(
            self._units_of(name, profile.central_window),
            window=profile.central_window,
            config=self._models.config,
        )
        tokens = profile.central_tokens // len(self._members)
        return contenders.train_on(data, self._models.base, tokens=tokens, seed=SEED)

    def _own(self, start: Parameters, name: str) -> Parameters:
        profile = self._profile
        data = Windows.of(
            self._units_of(name, profile.central_window),
            window=profile.central_window,
            config=self._models.config,
        )
        return contenders.own_adapter(data, start, tokens=profile.own_tokens, seed=SEED)

    # --------------------------------------------------------------------------------------------------- their means

    def _by_member(self, contender: str, train: Callable[[str], Parameters]) -> dict[str, Facts]:
        """One stage per member: trains, measures on that member only, and keeps the figures but not the model."""
        return {
            f"{contender}.{name}": self._stages.done(
                f"{contender}.{name}", partial(self._train_and_measure, train, name)
            )
            for name in self._members
        }

    def _train_and_measure(
        self, train: Callable[[str], Parameters], name: str
    ) -> tuple[Facts, Mapping[str, Parameters]]:
        return self._measurer().of(self._models.config, train(name), members=[name]), {}

    def _curve(self, releases: Sequence[Vector]) -> list[tuple[int, float]]:
        """(round, bits per byte of the model alone, mean over the members) after the rounds of `curve_rounds`."""
        points = []
        for number in curve_rounds(len(releases)):
            vector = releases[number - 1]
            released = self._models.plain(vector)
            figures = self._measurer().of(self._models.config, released, layers=("model",))
            points.append((number, fmean(one["bits_per_byte"] for one in figures["model"].values())))
        return points

    def _units_of(self, name: str, window: int) -> Units:
        if (name, window) not in self._units:
            kept = self._profile.windows_kept * self._profile.window // window
            self._units[name, window] = self._members[name].units(
                self._models.tokenizer, window=window, windows_per_unit=max(1, kept)
            )
        return self._units[name, window]

    def _measurer(self) -> Worth:
        if self._worth is None:
            self._worth = Worth(self._folder / "memory", self._members, self._models.tokenizer, self._profile)
        return self._worth


def curve_rounds(rounds: int) -> list[int]:
    """At most CURVE_POINTS rounds, evenly spread, with the last one: each costs a measurement."""
    return sorted({round(rounds * part / CURVE_POINTS) for part in range(1, CURVE_POINTS + 1)} - {0})


def federation_name(epsilon: float, repeat: int) -> str:
    """The stage of a federation."""
    return f"federation_eps{epsilon:g}" + (f"_again{repeat}" if repeat else "")


def alone_name(epsilon: float) -> str:
    """The contender that trains privately alone."""
    return f"alone_private_eps{epsilon:g}"


def by_member(facts: Mapping[str, Facts], contender: str, layer: str, figure: str) -> dict[str, Any]:
    """One figure of a contender by member. The contender was measured in one stage or in one stage per member."""
    stages = [value for name, value in facts.items() if name == contender or name.startswith(f"{contender}.")]
    return {name: one[figure] for stage in stages for name, one in stage[layer].items()}
