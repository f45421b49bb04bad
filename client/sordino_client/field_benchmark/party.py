"""One party, measured: some contenders under every memory, and the party's own adapters on those that it would use.

Everything here is of one party, so that what its memories found is looked up once for all models, and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from sordino_client.federation_benchmark import contenders
from sordino_client.federation_benchmark.contenders import Windows
from sordino_client.federation_benchmark.repositories import Repository
from sordino_client.federation_benchmark.stages import Facts
from sordino_client.field_benchmark.knowledge import Knowledge, Memories, Remembered
from sordino_client.field_benchmark.paired import Files
from sordino_client.field_benchmark.profile import FieldProfile
from sordino_client.training.job import Tokens
from sordino_platform.architecture import ModelConfig, Parameters
from sordino_platform.evaluation import Measurement, Plan, RepositoryMemory
from sordino_platform.model import build_decoder
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.counts import SharedMemory

SEED = 20261129
# A quarter of the context is shared by two windows, as in the old benchmark.
OVERLAP = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model, plain parameters, and how it is measured.

    own     the party puts an adapter of its own on it as well: the contender `NAME own`
    pulled  nothing else is measured of it than an own adapter that is pulled towards it, of a newcomer's first files
            or a member's all: the contender `NAME own pulled`
    shared  the federation's shared memory, beside whatever the party's memory holds; none of it where that is nothing
    trained adapters of this party's that were trained before, whole parameters by what they learnt
    """

    name: str
    parameters: Parameters
    own: bool = False
    pulled: bool = False
    shared: SharedMemory | None = None
    trained: Mapping[Knowledge, Parameters] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who is measured: its name, what is held out of it, its memories, and what an own adapter may be trained on, by
    the memory that the same files are in."""

    name: str
    heldout: Repository
    memories: Memories
    learnt: Mapping[Knowledge, Repository]


def measure_party(
    party: Party,
    models: Sequence[Contender],
    config: ModelConfig,
    tokenizer: Tokenizer,
    profile: FieldProfile,
    *,
    on_progress: Callable[[str], None],
) -> tuple[Facts, dict[str, Parameters]]:
    """Figures by memory and contender, each as `Files`; and the own adapters that were trained, folded in, each as
    `own_place` names it.

    Own adapters are measured under the memory that holds what they learnt, and with the others' text beside it too.
    """
    plan = Plan(
        tokens=profile.heldout_tokens, tokens_per_file=profile.tokens_per_file, lines=0, overlap=OVERLAP
    )
    measurement = Measurement(tokenizer, {party.name: party.heldout.texts()}, plan)
    remembered: dict[tuple[Knowledge, bool], RepositoryMemory] = {}

    def memory(knowledge: Knowledge, shared: SharedMemory | None) -> RepositoryMemory | None:
        own, key = party.memories[knowledge], (knowledge, shared is None)
        if own is None:
            return None
        if key not in remembered:
            remembered[key] = Remembered(own if shared is None else own.with_shared(shared))
        return remembered[key]

    def files(parameters: Parameters, asked: RepositoryMemory | None) -> dict[str, object]:
        model = build_decoder(config, parameters).eval()
        memories = None if asked is None else {party.name: asked}
        return asdict(Files.of(measurement.columns_of_model(model, memories=memories)[party.name]))

    found: dict[str, dict[str, object]] = {knowledge: {} for knowledge in party.memories}
    for one in models:
        for knowledge in party.memories if not one.pulled else ():
            if one.shared is None or knowledge in party.learnt:
                found[knowledge][one.name] = files(one.parameters, memory(knowledge, one.shared))
        on_progress(f"{party.name}: {one.name}")
    pulls: dict[str, object] = {}
    for one in models:
        if one.pulled:
            knowledge, repository = next(iter(party.learnt.items()))
            pulled, chosen = contenders.pulled_adapter(
                own_units(repository, tokenizer, profile),
                one.parameters,
                window=profile.central_window,
                config=config,
                tokens=profile.own_tokens,
                seed=SEED,
            )
            pulls[one.name] = asdict(chosen)
            found[knowledge][f"{one.name} own pulled"] = files(pulled, memory(knowledge, one.shared))
            on_progress(f"{party.name}: pulled adapter of {knowledge} on {one.name}")
    kept: dict[str, Parameters] = {}
    for knowledge, repository in party.learnt.items():
        windows: Windows | None = None
        for one in models:
            if not one.own:
                continue
            own = one.trained.get(knowledge)
            if own is None:
                windows = windows or own_windows(repository, config, tokenizer, profile)
                own = contenders.own_adapter(windows, one.parameters, tokens=profile.own_tokens, seed=SEED)
                kept[own_place(one.name, knowledge)] = own
            for place in party.memories:
                if place == knowledge or (one.shared is None and place == f"{knowledge} and others"):
                    found[place][f"{one.name} own"] = files(own, memory(place, one.shared))
            on_progress(f"{party.name}: own adapter of {knowledge} on {one.name}")
    return {"figures": found} | ({"pulls": pulls} if pulls else {}), kept


def own_place(contender: str, knowledge: Knowledge) -> str:
    """The name under which a stage keeps a party's own adapter on a contender."""
    return f"{contender}-own-{knowledge}"


def own_windows(
    repository: Repository, config: ModelConfig, tokenizer: Tokenizer, profile: FieldProfile
) -> Windows:
    """The windows that a party's own training draws from."""
    units = own_units(repository, tokenizer, profile)
    return Windows.of(units, window=profile.central_window, config=config)


def own_units(repository: Repository, tokenizer: Tokenizer, profile: FieldProfile) -> list[list[Tokens]]:
    """A party's units, each as the windows that its own training draws from."""
    kept = max(1, profile.windows_kept * profile.window // profile.central_window)
    return repository.units(tokenizer, window=profile.central_window, windows_per_unit=kept)
