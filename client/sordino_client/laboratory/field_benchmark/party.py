"""Measures one party: some contenders with every memory, and the party's own adapters on those that it would use.

Everything here belongs to one party, so that look-ups in its memories are done once for all models and then freed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from sordino_client.laboratory.federation_benchmark import contenders
from sordino_client.laboratory.federation_benchmark.contenders import Windows
from sordino_client.laboratory.federation_benchmark.measuring import OVERLAP
from sordino_client.laboratory.federation_benchmark.repositories import Repository
from sordino_client.laboratory.federation_benchmark.stages import Facts
from sordino_client.laboratory.field_benchmark.knowledge import Knowledge, Memories, Remembered
from sordino_client.laboratory.field_benchmark.paired import Files
from sordino_client.laboratory.field_benchmark.profile import FieldProfile
from sordino_client.training.job import Tokens
from sordino_platform.architecture import ModelConfig, Parameters
from sordino_platform.evaluation import Measurement, Plan, RepositoryMemory
from sordino_platform.model import build_decoder
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.counts import SharedMemory

SEED = 20261129


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model, plain parameters, and how it is measured.

    bare    it is measured as it is, with every memory
    own     for each knowledge here, the party trains an own adapter on it: the contender `NAME own`, measured with the
            memory of that knowledge, and with that memory and the others' text
    pulled  for each knowledge here, an own adapter is trained that is pulled towards it: the contender
            `NAME own pulled`
    shared  the federation's shared memory, used together with the party's memory; not measured when that memory holds
            nothing or the others' text
    trained own adapters from an earlier stage, as whole parameters, by the knowledge that they were trained on
    """

    name: str
    parameters: Parameters
    bare: bool = True
    own: tuple[Knowledge, ...] = ()
    pulled: tuple[Knowledge, ...] = ()
    shared: SharedMemory | None = None
    trained: Mapping[Knowledge, Parameters] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """The party that is measured: its name, held-out files and memories, and the files of each knowledge by name."""

    name: str
    heldout: Repository
    memories: Memories
    learnt: Mapping[Knowledge, Repository]


class Measuring:
    """The measurement of one party in one stage. All models get the same tokens; the memories cache their results."""

    def __init__(
        self, party: Party, config: ModelConfig, tokenizer: Tokenizer, profile: FieldProfile
    ) -> None:
        self._party, self._config, self._tokenizer, self._profile = party, config, tokenizer, profile
        self._measurement = Measurement(
            tokenizer, {party.name: party.heldout.texts()}, heldout_plan(profile, profile.heldout_tokens)
        )
        self._remembered: dict[tuple[Knowledge, bool], RepositoryMemory] = {}
        self._units: dict[Knowledge, list[list[Tokens]]] = {}
        self.figures: dict[str, dict[str, object]] = {knowledge: {} for knowledge in party.memories}
        self.pulls: dict[str, object] = {}
        self.trained: dict[str, Parameters] = {}

    def bare(self, one: Contender) -> None:
        """Measures the model as it is."""
        for knowledge in self._party.memories:
            if one.shared is None or knowledge in self._party.learnt:
                self._put(one.name, one.parameters, knowledge, one.shared)

    def own(self, one: Contender, knowledge: Knowledge) -> None:
        """Measures the model with the party's own adapter."""
        own = one.trained.get(knowledge)
        if own is None:
            windows = Windows.of(
                self._units_of(knowledge), window=self._profile.central_window, config=self._config
            )
            own = contenders.own_adapter(windows, one.parameters, tokens=self._profile.own_tokens, seed=SEED)
            self.trained[own_place(one.name, knowledge)] = own
        for place in self._party.memories:
            if place == knowledge or (one.shared is None and place == f"{knowledge} and others"):
                self._put(f"{one.name} own", own, place, one.shared)

    def pulled(self, one: Contender, knowledge: Knowledge) -> None:
        """Measures the model with the party's own adapter, pulled towards the model."""
        own, chosen = contenders.pulled_adapter(
            self._units_of(knowledge),
            one.parameters,
            window=self._profile.central_window,
            config=self._config,
            tokens=self._profile.own_tokens,
            seed=SEED,
        )
        self.pulls[f"{one.name}, {knowledge}"] = asdict(chosen)
        self._put(f"{one.name} own pulled", own, knowledge, one.shared)

    def _put(
        self, name: str, parameters: Parameters, knowledge: Knowledge, shared: SharedMemory | None
    ) -> None:
        model = build_decoder(self._config, parameters).eval()
        asked = self._memory(knowledge, shared)
        memories = None if asked is None else {self._party.name: asked}
        columns = self._measurement.columns_of_model(model, memories=memories)[self._party.name]
        self.figures[knowledge][name] = asdict(Files.of(columns))

    def _memory(self, knowledge: Knowledge, shared: SharedMemory | None) -> RepositoryMemory | None:
        own, key = self._party.memories[knowledge], (knowledge, shared is None)
        if own is None:
            return None
        if key not in self._remembered:
            self._remembered[key] = Remembered(own if shared is None else own.with_shared(shared))
        return self._remembered[key]

    def _units_of(self, knowledge: Knowledge) -> list[list[Tokens]]:
        if knowledge not in self._units:
            self._units[knowledge] = own_units(self._party.learnt[knowledge], self._tokenizer, self._profile)
        return self._units[knowledge]


def measure_party(
    party: Party,
    models: Sequence[Contender],
    config: ModelConfig,
    tokenizer: Tokenizer,
    profile: FieldProfile,
    *,
    on_progress: Callable[[str], None],
) -> tuple[Facts, dict[str, Parameters]]:
    """Measures the contenders. Returns facts and trained models.

    The facts are figures by memory and contender, each as `Files`, and the chosen pulls. The models are the trained own
    adapters, folded in and named by `own_place`.
    """
    measuring = Measuring(party, config, tokenizer, profile)
    for one in models:
        if one.bare:
            measuring.bare(one)
        for knowledge in one.own:
            measuring.own(one, knowledge)
        for knowledge in one.pulled:
            measuring.pulled(one, knowledge)
        on_progress(f"{party.name}: {one.name}")
    facts: Facts = {"figures": {memory: found for memory, found in measuring.figures.items() if found}}
    return facts | ({"pulls": measuring.pulls} if measuring.pulls else {}), measuring.trained


def heldout_plan(profile: FieldProfile, tokens: int) -> Plan:
    """The plan for this many held-out tokens of a party, the same for every contender."""
    return Plan(tokens=tokens, tokens_per_file=profile.tokens_per_file, lines=0, overlap=OVERLAP)


def own_place(contender: str, knowledge: Knowledge) -> str:
    """The name under which a stage keeps a party's own adapter on a contender."""
    return f"{contender}-own-{knowledge}"


def own_windows(
    repository: Repository, config: ModelConfig, tokenizer: Tokenizer, profile: FieldProfile
) -> Windows:
    """The windows from which a party's own training draws."""
    units = own_units(repository, tokenizer, profile)
    return Windows.of(units, window=profile.central_window, config=config)


def own_units(repository: Repository, tokenizer: Tokenizer, profile: FieldProfile) -> list[list[Tokens]]:
    """A party's units, each as the windows from which its own training draws."""
    kept = max(1, profile.windows_kept * profile.window // profile.central_window)
    return repository.units(tokenizer, window=profile.central_window, windows_per_unit=kept)
