"""Fits the table of completion/memory/shared.py.

Run as `python -m sordino_client.laboratory.memory_fitting.shared_fitting --out shared_mixture.json`.

The projects of the corpus `field-tuning` stand on one platform and are in no figure (`sordino corpus fetch
field-tuning`). The phrases of all but one are counted as a federation would, with noise, and the one that is left out
is read beside what is believed, and below its own memory, as it is served: once with all its other files, as a member
has them, once with eight, as a newcomer does. The table is the one that makes its tokens likeliest, pulled a little
towards zero; each project is also foretold by a table fitted to the others, and those figures are printed and kept in
the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sordino_client.completion.memory import mixture, shared
from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_client.completion.memory.mixture import MatchEvidence
from sordino_client.completion.memory.shared import LAYOUT, SharedEvidence, evidence
from sordino_client.corpus.licence import strip_header
from sordino_client.corpus.unit import cut
from sordino_client.laboratory.memory_fitting.fitting import Observation, ObservedProject, bits, fit
from sordino_client.laboratory.pretrain.commands import user_cache
from sordino_client.laboratory.pretrain.corpus import read_corpus
from sordino_client.training.counting import cells_of
from sordino_platform import base
from sordino_platform.evaluation import Plan, measured_texts
from sordino_platform.evaluation.loss import score
from sordino_platform.model import build_decoder
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.counts import CountPlan, SharedMemory
from sordino_privacy.counts.counting import Counts, counted, noised
from sordino_privacy.keystream import Keystream

TOKENS_PER_PROJECT = 6_000
FEW = 8
"""Files in a newcomer's own memory."""
FEWEST_FILES = 15
"""Smaller projects are counted, and not measured."""
PLAN = CountPlan(noise_multiplier=0.15, largest_count=8, delta=1e-6, salt=1)
"""Less noise than a federation can afford: these projects have a fifth of its clusters, and a phrase must stand in as
large a share of them to be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Projects of one platform: the texts of each, and what each counts without noise."""

    texts: Mapping[str, Sequence[str]]
    counts: Mapping[str, Counts]

    def memory(self, *, without: str, seed: bytes) -> SharedMemory:
        """What a sum over all other projects would have them believe, with the noise of one whole share."""
        others = [counts for name, counts in self.counts.items() if name != without]
        total = noised(np.sum(others, axis=0), PLAN, Keystream(seed))
        return SharedMemory.of_sum(total, PLAN, survivors=1, step=1.0)


def counts_of(texts: Sequence[str], model: torch.nn.Module, tokenizer: Tokenizer, plan: CountPlan) -> Counts:
    """One project's counts, each file a unit of its own."""
    cut_up = (cut(tokenizer.encode(text), plan.window) for text in texts)
    units = [list(windows) for windows in cut_up if len(windows)]
    config = base.load(None)[0]
    return counted(
        (cells_of(unit, model, plan, vocabulary=config.vocabulary, end=config.end) for unit in units), plan
    )


def read_field(cache: Path) -> Field:
    """Reads and counts. Raises DataError where the corpus was not fetched."""
    config, tokenizer, parameters = base.load(None)
    model = build_decoder(config, parameters).eval()
    texts: dict[str, list[str]] = {}
    for document in read_corpus(cache, "field-tuning"):
        # As a member reads its repositories: one licence stands in all files, and a table that was fitted to it would
        # believe everything.
        texts.setdefault(document.project, []).append(strip_header(document.text))
    counts = {name: counts_of(rows, model, tokenizer, PLAN) for name, rows in texts.items()}
    return Field(texts=texts, counts=counts)


def observe(field: Field, name: str, *, tokens: int, few: bool) -> ObservedProject:
    """Reads a project's measured files beside the memory that the others make, below a memory of its own other files,
    or of FEW of them."""
    config, tokenizer, parameters = base.load(None)
    model = build_decoder(config, parameters).eval()
    memory = field.memory(without=name, seed=name.encode().ljust(32, b"\0")[:32])
    plan = Plan(tokens=tokens, lines=0)
    measured = measured_texts(field.texts[name], tokenizer, plan)
    rest = [text for text in field.texts[name] if text not in measured]
    rest.sort(key=lambda text: hashlib.sha256(text.encode()).digest())
    remembered = {str(number): text for number, text in enumerate(rest[: FEW if few else None])}
    observations: list[Observation] = []
    size = left = 0
    with tempfile.TemporaryDirectory() as folder:
        own = MeasuredMemory(Path(folder), remembered, tokenizer)
        for text in sorted(measured):
            ids = tokenizer.encode(text)[: min(plan.tokens_per_file, tokens - left)]
            left += len(ids)
            if len(ids) < 16:
                break
            size += len(tokenizer.decode(ids).encode())

            def mix(
                before: Sequence[int], odds: npt.NDArray[np.float64], ids: list[int] = ids
            ) -> npt.NDArray[np.float64]:
                found = evidence(memory, before, vocabulary=config.vocabulary)
                observations.append(observed(ids[len(before)], odds, found, own(before).evidence(())))
                return odds

            score(model, [ids], mix=mix)
    return ObservedProject(name=name, observations=observations, bytes=size)


def observed(
    came: int,
    odds: npt.NDArray[np.float64],
    found: Sequence[SharedEvidence],
    own: Sequence[MatchEvidence],
) -> Observation:
    """One token that came, beside what the shared memory said and below what the own ones said.

    The own memories' weights are those beside the shared memory's present table: they depend on it a little.
    """
    likeliest = int(odds.argmax())
    recalled = []
    for one in found:
        hit = np.flatnonzero(one.foretold.tokens == came)
        recalled.append(float(one.foretold.counts[hit[0]] / one.foretold.counts.sum()) if len(hit) else 0.0)
    places = tuple(e.places(certainty=float(odds[likeliest]), model_likeliest=likeliest) for e in found)
    mixed = shared.blend(odds, found, shared.fitted())
    kept, added = blended_above(mixed, own, came)
    return Observation(
        model=float(odds[came]), recalled=tuple(recalled), places=places, kept=kept, added=added
    )


def blended_above(
    odds: npt.NDArray[np.float64], own: Sequence[MatchEvidence], came: int
) -> tuple[float, float]:
    """What the own memories leave of the odds of `came`, and what they add, with the weights that they have here."""
    likeliest = int(odds.argmax())
    kept, added, table = 1.0, 0.0, mixture.fitted()
    for one in own:
        places = one.places(certainty=float(odds[likeliest]), model_likeliest=likeliest)
        weight = 1 / (1 + np.exp(-sum(float(table[part][place]) for part, place in places.items())))
        at = int(np.searchsorted(one.tokens, came))
        hit = at < len(one.tokens) and one.tokens[at] == came
        kept *= 1 - weight
        added = (1 - weight) * added + (weight * float(one.counts[at] / one.counts.sum()) if hit else 0.0)
    return float(kept), float(added)


def main() -> None:
    """Counts, observes, fits, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=user_cache(), help="where corpora are kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=TOKENS_PER_PROJECT, help="read of each project")
    options = parser.parse_args()
    field = read_field(options.cache)
    measured = [name for name, texts in field.texts.items() if len(texts) >= FEWEST_FILES]
    projects = [
        observe(field, name, tokens=options.tokens, few=few) for name in measured for few in (False, True)
    ]
    figures: dict[str, Any] = {}
    for number, project in enumerate(projects):
        others = [seen for other in projects if other.name != project.name for seen in other.observations]
        name = f"{project.name}, {'eight files' if number % 2 else 'all files'} in its own memory"
        figures[name] = {
            "tokens": len(project.observations),
            "foretold": sum(bool(seen.places) for seen in project.observations),
            "without_bits_per_byte": round(bits(project, None, LAYOUT), 4),
            "with_memory_bits_per_byte": round(bits(project, fit(others, LAYOUT), LAYOUT), 4),
        }
        print(json.dumps({name: figures[name]}), flush=True)  # noqa: T201 - a script's progress
    table = fit([seen for project in projects for seen in project.observations], LAYOUT)
    written = {
        "foretold_by_the_others": figures,
        "table": {part: np.round(value.numpy().astype(float), 3).tolist() for part, value in table.items()},
    }
    options.out.write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    main()
