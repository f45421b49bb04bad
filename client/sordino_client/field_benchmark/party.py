"""One party, measured: every model under every memory, and the party's own adapters on those that it would use.

Everything here is of one party, so that what its memories found is looked up once for all models, and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from sordino_client.federation_benchmark import contenders
from sordino_client.federation_benchmark.contenders import Windows
from sordino_client.federation_benchmark.repositories import Repository
from sordino_client.federation_benchmark.stages import Facts
from sordino_client.field_benchmark.knowledge import Knowledge
from sordino_client.field_benchmark.paired import Files
from sordino_client.field_benchmark.profile import FieldProfile
from sordino_platform.architecture import ModelConfig, Parameters
from sordino_platform.evaluation import Measurement, Plan, RepositoryMemory
from sordino_platform.model import build
from sordino_platform.tokenizer import Tokenizer

SEED = 20261129
# A quarter of the context is shared by two windows, as in the old benchmark.
OVERLAP = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What is measured: plain parameters by contender. On `adapted` the party puts an adapter of its own."""

    config: ModelConfig
    plain: Mapping[str, Parameters]
    adapted: tuple[str, ...]


def measure_party(
    name: str,
    heldout: Repository,
    learnt: Mapping[Knowledge, Repository],
    memories: Mapping[Knowledge, RepositoryMemory | None],
    models: Models,
    tokenizer: Tokenizer,
    profile: FieldProfile,
    *,
    on_progress: Callable[[str], None],
) -> Facts:
    """Figures by memory and contender, each as `Files`.

    `learnt` is what an own adapter is trained on, by the memory that the same files are in. An adapter of a contender
    is the contender `NAME own`, and is measured under that memory, with the others' text beside it too.
    """
    plan = Plan(
        tokens=profile.heldout_tokens, tokens_per_file=profile.tokens_per_file, lines=0, overlap=OVERLAP
    )
    measurement = Measurement(tokenizer, {name: heldout.texts()}, plan)

    def files(parameters: Parameters, memory: RepositoryMemory | None) -> dict[str, object]:
        model = build(models.config, parameters).eval()
        columns = measurement.columns_of_model(model, memories=None if memory is None else {name: memory})
        return asdict(Files.of(columns[name]))

    found: dict[str, dict[str, object]] = {knowledge: {} for knowledge in memories}
    for knowledge, memory in memories.items():
        for contender, parameters in models.plain.items():
            found[knowledge][contender] = files(parameters, memory)
        on_progress(f"{name}: {knowledge} in memory")
    for knowledge, repository in learnt.items():
        windows = own_windows(repository, models.config, tokenizer, profile)
        for contender in models.adapted:
            start = models.plain[contender]
            own = contenders.own_adapter(windows, start, tokens=profile.own_tokens, seed=SEED)
            for place, memory in memories.items():
                if place.split()[0] == knowledge:
                    found[place][f"{contender} own"] = files(own, memory)
        on_progress(f"{name}: own adapters of {knowledge}")
    return {"figures": found}


def own_windows(
    repository: Repository, config: ModelConfig, tokenizer: Tokenizer, profile: FieldProfile
) -> Windows:
    """The windows that a party's own training draws from."""
    kept = max(1, profile.windows_kept * profile.window // profile.central_window)
    units = repository.units(tokenizer, window=profile.central_window, windows_per_unit=kept)
    return Windows.of(units, window=profile.central_window, config=config)
