"""Fits the table of completion/memory/shared.py.

Run as `python -m sordino_client.laboratory.memory_fitting.shared_fitting --out shared_mixture.json`.

The projects of the corpus `field-tuning` stand on one platform and are in no figure (`sordino corpus fetch
field-tuning`). The phrases of all but one are counted as a federation would, with noise, and the one that is left out
is read beside what is believed. The table is the one that makes its tokens likeliest, pulled a little towards zero;
each project is also foretold by a table fitted to the others, and those figures are printed and kept in the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sordino_client.completion.memory.shared import LAYOUT, SharedEvidence, evidence
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
from sordino_privacy.dpsgd.keystream import Keystream

TOKENS_PER_PROJECT = 6_000
HEAD = 260
"""Tokens at the beginning of a file that are not measured: one licence stands there in all, and a table that was
fitted to it would believe everything."""
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
        texts.setdefault(document.project, []).append(document.text)
    counts = {name: counts_of(rows, model, tokenizer, PLAN) for name, rows in texts.items()}
    return Field(texts=texts, counts=counts)


def observe(field: Field, name: str, *, tokens: int) -> ObservedProject:
    """Reads a project's measured files beside the memory that the others make."""
    config, tokenizer, parameters = base.load(None)
    model = build_decoder(config, parameters).eval()
    memory = field.memory(without=name, seed=name.encode().ljust(32, b"\0")[:32])
    plan = Plan(tokens=tokens, lines=0)
    observations: list[Observation] = []
    size = left = 0
    for text in sorted(measured_texts(field.texts[name], tokenizer, plan)):
        ids = tokenizer.encode(text)[HEAD:][: min(plan.tokens_per_file, tokens - left)]
        left += len(ids)
        if len(ids) < 16:
            break
        size += len(tokenizer.decode(ids).encode())

        def mix(
            before: Sequence[int], odds: npt.NDArray[np.float64], ids: list[int] = ids
        ) -> npt.NDArray[np.float64]:
            found = evidence(memory, before, vocabulary=config.vocabulary)
            observations.append(observed(ids[len(before)], odds, found))
            return odds

        score(model, [ids], mix=mix)
    return ObservedProject(name=name, observations=observations, bytes=size)


def observed(came: int, odds: npt.NDArray[np.float64], found: Sequence[SharedEvidence]) -> Observation:
    """One token that came, beside what the shared memory said."""
    likeliest = int(odds.argmax())
    recalled = []
    for one in found:
        hit = np.flatnonzero(one.foretold.tokens == came)
        recalled.append(float(one.foretold.counts[hit[0]] / one.foretold.counts.sum()) if len(hit) else 0.0)
    places = tuple(e.places(certainty=float(odds[likeliest]), model_likeliest=likeliest) for e in found)
    return Observation(model=float(odds[came]), recalled=tuple(recalled), places=places)


def main() -> None:
    """Counts, observes, fits, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=user_cache(), help="where corpora are kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=TOKENS_PER_PROJECT, help="read of each project")
    options = parser.parse_args()
    field = read_field(options.cache)
    measured = [name for name, texts in field.texts.items() if len(texts) >= FEWEST_FILES]
    projects = [observe(field, name, tokens=options.tokens) for name in measured]
    figures: dict[str, Any] = {}
    for project in projects:
        others = [seen for other in projects if other is not project for seen in other.observations]
        figures[project.name] = {
            "tokens": len(project.observations),
            "foretold": sum(bool(seen.places) for seen in project.observations),
            "model_bits_per_byte": round(bits(project, None, LAYOUT), 4),
            "with_memory_bits_per_byte": round(bits(project, fit(others, LAYOUT), LAYOUT), 4),
        }
        print(json.dumps({project.name: figures[project.name]}), flush=True)  # noqa: T201 - a script's progress
    table = fit([seen for project in projects for seen in project.observations], LAYOUT)
    written = {
        "foretold_by_the_others": figures,
        "table": {part: np.round(value.numpy().astype(float), 3).tolist() for part, value in table.items()},
    }
    options.out.write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    main()
