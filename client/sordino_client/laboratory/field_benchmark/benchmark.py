"""Runs the stages of the field's benchmark, the most important first.

The figures that are quoted first need the federation at the first epsilon, and the measurements of base and federation
for every party. These run first, so that an interrupted run has them. Stages that only give context (the second
epsilon, training without privacy, members alone) run later.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_client.laboratory.federation_benchmark import contenders
from sordino_client.laboratory.federation_benchmark.benchmark import curve_rounds
from sordino_client.laboratory.federation_benchmark.contenders import Windows
from sordino_client.laboratory.federation_benchmark.federation import count, counted_memory, federate
from sordino_client.laboratory.federation_benchmark.models import BenchmarkModels, Units
from sordino_client.laboratory.federation_benchmark.profile import EPSILONS
from sordino_client.laboratory.federation_benchmark.stages import Facts, Stages
from sordino_client.laboratory.field_benchmark import repositories
from sordino_client.laboratory.field_benchmark.knowledge import (
    Knowledge,
    knowledge_of_member,
    knowledge_of_newcomer,
    others_text,
)
from sordino_client.laboratory.field_benchmark.party import (
    Contender,
    Party,
    measure_party,
    own_place,
    own_windows,
)
from sordino_client.laboratory.field_benchmark.profile import FieldProfile
from sordino_client.laboratory.field_benchmark.taking import TAKEN, choose_and_measure
from sordino_client.laboratory.field_benchmark.terms import count_settings, field_terms_within, plan_alone
from sordino_client.laboratory.pretrain.corpus import read_corpus
from sordino_platform.architecture import Parameters, Vector
from sordino_platform.evaluation import Measurement, Plan
from sordino_platform.model import build_decoder

SEED = 20261129
CURVE_TOKENS, CURVE_TOKENS_PER_FILE = 1000, 500
CENTRAL, AVERAGED, COUNTS = "central", "federation_without_privacy", "shared_memory"
Work = Callable[[], tuple[Facts, Mapping[str, Parameters]]]
Models = Callable[[str], Sequence[Contender]]  # what is measured for the party of that name


class FieldBenchmark:
    """One run in a folder. `run` returns every stage's facts by its name."""

    def __init__(
        self, folder: Path, cache: Path, profile: FieldProfile, *, on_progress: Callable[[str], None]
    ) -> None:
        self._folder, self._cache, self._profile, self._say = folder, cache, profile, on_progress
        self._models = models = BenchmarkModels(profile)
        self._stages = Stages(folder, profile, base_sha256=models.base_sha256, on_progress=on_progress)
        everybody = repositories.places(folder / "repositories", profile)
        self._members = {name: everybody[name] for name, _ in profile.training}
        self._newcomers = {name: everybody[name] for name in profile.joining}
        self._first_files = repositories.beginnings(folder / "repositories", profile)
        self._others: MeasuredMemory | None = None

    def run(self) -> dict[str, Facts]:
        """Runs the stages that are not finished. Raises any SordinoError."""
        return {name: self._stages.done(name, work) for name, work in self._order()}

    def finished(self) -> dict[str, Facts]:
        """The facts of the stages that an earlier run finished. Runs nothing."""
        found = {name: self._stages.finished(name) for name, _ in self._order()}
        return {name: facts for name, facts in found.items() if facts is not None}

    def _order(self) -> Iterator[tuple[str, Work]]:
        first, second = EPSILONS
        everybody = (*self._newcomers, *self._members)

        def measured(names: Iterable[str], what: str, models: Models) -> Iterator[tuple[str, Work]]:
            return ((party(name, what), partial(self._party, name, models)) for name in names)

        yield "repositories", self._write
        yield field_federation_name(first), partial(self._federation, first)
        yield from measured(everybody, "headline", self._headline)
        yield COUNTS, self._counts
        yield from measured(everybody, "counted", self._counted)
        for name in self._members:
            yield party(name, TAKEN), partial(self._taken, name)
        yield from measured(everybody, "bare", self._bare)
        yield field_federation_name(second), partial(self._federation, second)
        yield from measured(everybody, "second", self._second)
        yield from measured(everybody, "pulled", self._pulled)
        yield from measured(self._newcomers, "all", self._all_files)
        yield AVERAGED, self._averaged
        for name in self._members:
            yield alone(name), partial(self._alone, name)
        yield CENTRAL, self._central
        yield from measured(everybody, "compared", self._compared)

    # --------------------------------------------------------------------------------------------------- the stages

    def _write(self) -> tuple[Facts, Mapping[str, Parameters]]:
        documents = read_corpus(self._cache, self._profile.role)
        found = repositories.write(self._folder / "repositories", documents, self._profile)
        return {"parties": found}, {}

    def _federation(self, epsilon: float) -> tuple[Facts, Mapping[str, Parameters]]:
        gc.collect()  # otherwise tensors of earlier stages would use memory beside all the processes
        name = field_federation_name(epsilon)
        run = federate(
            self._folder / name,
            self._members,
            field_terms_within(self._profile, epsilon),
            on_progress=lambda line: self._say(f"{name}: {line}"),
        )
        curve = self._curve(run.releases)
        return {"curve": curve, "run": dict(run.facts)}, {"released": self._models.plain(run.releases[-1])}

    def _counts(self) -> tuple[Facts, Mapping[str, Parameters]]:
        gc.collect()
        counted = count(
            self._folder / field_federation_name(EPSILONS[0]),
            self._members,
            field_terms_within(self._profile, EPSILONS[0]),
            count_settings(self._profile),
            on_progress=lambda line: self._say(f"{COUNTS}: {line}"),
        )
        return {"run": counted}, {}

    def _central(self) -> tuple[Facts, Mapping[str, Parameters]]:
        profile = self._profile
        found = [
            own_windows(one, self._models.config, self._models.tokenizer, profile)
            for one in self._members.values()
        ]
        data = Windows(
            windows=tuple(window for one in found for window in one.windows),
            window=profile.central_window,
            config=self._models.config,
        )
        trained = contenders.train_on(data, self._models.base, tokens=profile.central_tokens, seed=SEED)
        return {}, {"released": trained}

    def _averaged(self) -> tuple[Facts, Mapping[str, Parameters]]:
        units = {name: self._units_of(name) for name in self._members}
        releases = self._models.average_members_without_any_privacy_for_comparison(units, seed=SEED)
        return {"curve": self._curve(releases)}, {"released": self._models.plain(releases[-1])}

    def _alone(self, name: str) -> tuple[Facts, Mapping[str, Parameters]]:
        plan, schedule = plan_alone(self._profile, EPSILONS[0]), self._profile.alone
        return {}, {"released": self._models.privately_alone(self._units_of(name), plan, schedule)}

    def _party(self, name: str, models: Models) -> tuple[Facts, Mapping[str, Parameters]]:
        return measure_party(
            self._whole_party(name),
            models(name),
            self._models.config,
            self._models.tokenizer,
            self._profile,
            on_progress=self._say,
        )

    def _taken(self, name: str) -> tuple[Facts, Mapping[str, Parameters]]:
        federation, headline = field_federation_name(EPSILONS[0]), party(name, "headline")
        windows = own_windows(self._members[name], self._models.config, self._models.tokenizer, self._profile)
        facts = choose_and_measure(
            self._whole_party(name),
            self._stages.model(headline, own_place("base", "all")),
            contenders.own_adapter(
                windows, self._models.base, tokens=self._profile.own_tokens, seed=SEED + 1
            ),
            self._stages.model(headline, own_place(federation, "all")),
            counted_memory(self._folder / federation),
            self._models.config,
            self._models.tokenizer,
            self._profile,
            on_progress=self._say,
        )
        return facts, {}

    # ------------------------------------------------------------------------------------------ what is measured when

    def _begins_with(self, name: str) -> Knowledge:
        """The knowledge of a party in the quoted figures: a newcomer has its first files, a member all its files."""
        return "all" if name in self._members else "few"

    def _headline(self, name: str) -> list[Contender]:
        own = (self._begins_with(name),)
        return [replace(one, bare=False, own=own) for one in self._base_and_federation()]

    def _counted(self, name: str) -> list[Contender]:
        federation, knowledge = field_federation_name(EPSILONS[0]), self._begins_with(name)
        own = self._stages.model(party(name, "headline"), own_place(federation, knowledge))
        return [
            Contender(
                name=counted_name(federation),
                parameters=self._released(federation),
                bare=False,
                own=(knowledge,),
                shared=counted_memory(self._folder / federation),
                trained={knowledge: own},
            )
        ]

    def _bare(self, _: str) -> list[Contender]:
        return self._base_and_federation()

    def _second(self, name: str) -> list[Contender]:
        federation = field_federation_name(EPSILONS[1])
        own = (self._begins_with(name),)
        return [Contender(name=federation, parameters=self._released(federation), own=own)]

    def _pulled(self, name: str) -> list[Contender]:
        pulled = (self._begins_with(name),)
        return [replace(one, bare=False, pulled=pulled) for one in self._base_and_federation()]

    def _all_files(self, _: str) -> list[Contender]:
        base, federation = (replace(one, bare=False, own=("all",)) for one in self._base_and_federation())
        memory = counted_memory(self._folder / federation.name)
        counted = replace(federation, name=counted_name(federation.name), bare=True, shared=memory)
        return [base, federation, counted]

    def _compared(self, name: str) -> list[Contender]:
        stages = {CENTRAL: CENTRAL, AVERAGED: AVERAGED}
        if name in self._members:
            stages["alone"] = alone(name)
        return [Contender(name=one, parameters=self._released(stage)) for one, stage in stages.items()]

    def _base_and_federation(self) -> list[Contender]:
        federation = field_federation_name(EPSILONS[0])
        return [
            Contender(name="base", parameters=self._models.base),
            Contender(name=federation, parameters=self._released(federation)),
        ]

    # --------------------------------------------------------------------------------------------------- their means

    def _whole_party(self, name: str) -> Party:
        place = self._folder / "memory" / name
        if name in self._members:
            whole = self._members[name]
            memories = knowledge_of_member(place, whole, self._models.tokenizer)
            return Party(name=name, heldout=whole, memories=memories, learnt={"all": whole})
        whole, first = self._newcomers[name], self._first_files[name]
        memories = knowledge_of_newcomer(place, first, whole, self._others_text(), self._models.tokenizer)
        return Party(name=name, heldout=whole, memories=memories, learnt={"few": first, "all": whole})

    def _curve(self, releases: Sequence[Vector]) -> list[tuple[int, float]]:
        """(round, mean bits per byte over the newcomers, model alone); round 0 is the base."""
        plan = Plan(tokens=CURVE_TOKENS, tokens_per_file=CURVE_TOKENS_PER_FILE, lines=0)
        texts = {name: one.texts() for name, one in self._newcomers.items()}
        measurement = Measurement(self._models.tokenizer, texts, plan)

        def bits(parameters: Parameters) -> float:
            columns = measurement.columns_of_model(build_decoder(self._models.config, parameters).eval())
            return fmean(sum(one.bits) / sum(one.sizes) for one in columns.values())

        points = [(0, bits(self._models.base))]
        return points + [
            (number, bits(self._models.plain(releases[number - 1]))) for number in curve_rounds(len(releases))
        ]

    def _released(self, stage: str) -> Parameters:
        return self._stages.model(stage, "released")

    def _units_of(self, name: str) -> Units:
        profile = self._profile
        return self._members[name].units(
            self._models.tokenizer, window=profile.window, windows_per_unit=profile.windows_kept
        )

    def _others_text(self) -> MeasuredMemory:
        if self._others is None:
            self._others = others_text(
                self._folder / "memory" / "others", self._members, self._models.tokenizer
            )
        return self._others


def field_federation_name(epsilon: float) -> str:
    """The name of a federation's stage and contender."""
    return f"federation_eps{epsilon:g}"


def counted_name(federation: str) -> str:
    """The contender that is the federation's model with its shared memory."""
    return f"{federation} counted"


def alone(name: str) -> str:
    """The stage of a member that trains privately alone."""
    return f"alone.{name}"


def party(name: str, what: str) -> str:
    """The stage that measures some contenders for a party; see `FieldBenchmark._order`."""
    return f"party.{name}.{what}"
