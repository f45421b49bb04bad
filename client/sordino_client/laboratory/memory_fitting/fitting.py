"""`python -m sordino_client.laboratory.memory_fitting.fitting --out mixture.json`: fits the table of mixture.py.

Files of the `tuning` corpus (in no other list; `sordino corpus fetch tuning`) are read token by token with a memory of
their projects' other files. The table maximises the likelihood of those tokens, with a small penalty that keeps classes
without data at zero. Each project is also predicted with a table fitted to the others (cross-validation): these are the
figures to judge by, and they are printed and saved in the file.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_client.completion.memory.mixture import LAYOUT, MatchEvidence
from sordino_client.laboratory.pretrain.commands import user_cache
from sordino_client.laboratory.pretrain.corpus import read_corpus
from sordino_platform import base
from sordino_platform.evaluation import Plan, measured_texts
from sordino_platform.evaluation.loss import score
from sordino_platform.model import build_decoder
from sordino_platform.tokenizer import Tokenizer

TOKENS_PER_PROJECT = 12_000
EPOCHS = 20
BATCH = 2_048
RATE = 0.05
PULL = 5e-6
MOST = 12
"""The most pieces of evidence for one token: two sources at six lengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One observed token: its probability by the model and by each piece of evidence, and its places in the table.

    Memories that are blended later multiply its probability by `kept` and then add `added`.
    """

    model: float
    recalled: tuple[float, ...]
    places: tuple[dict[str, tuple[int, ...]], ...]
    kept: float = 1.0
    added: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedProject:
    """`bytes` is the size of the observed text."""

    name: str
    observations: list[Observation]
    bytes: int


def pieces(measured: Iterable[str], tokenizer: Tokenizer, plan: Plan) -> Iterator[list[int]]:
    """The beginning of each measured file as tokens, in the texts' order, up to the plan's total number of tokens."""
    left = plan.tokens
    for text in sorted(measured):
        ids = tokenizer.encode(text)[: min(plan.tokens_per_file, left)]
        left -= len(ids)
        if len(ids) < 16:
            return
        yield ids


def observe(texts: Sequence[str], name: str, *, tokens: int) -> ObservedProject:
    """Reads a project's measured files with a memory of its other files."""
    config, tokenizer, parameters = base.load(None)
    model = build_decoder(config, parameters)
    plan = Plan(tokens=tokens, lines=0)
    measured = measured_texts(texts, tokenizer, plan)
    rest = {str(number): text for number, text in enumerate(texts) if text not in measured}
    observations: list[Observation] = []
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        memory = MeasuredMemory(Path(folder), rest, tokenizer)
        for ids in pieces(measured, tokenizer, plan):
            size += len(tokenizer.decode(ids).encode())
            note: list[Observation] = [None] * len(ids)  # type: ignore[list-item]  # each place is filled once

            def mix(
                before: Sequence[int],
                odds: np.ndarray,
                ids: list[int] = ids,
                note: list[Observation] = note,
            ) -> np.ndarray:
                evidence = memory(before).evidence(())
                note[len(before)] = _observed(ids[len(before)], odds, evidence)
                return odds

            score(model, [ids], mix=mix)
            observations += note
    return ObservedProject(name=name, observations=observations, bytes=size)


def _observed(came: int, odds: np.ndarray, evidence: Sequence[MatchEvidence]) -> Observation:
    likeliest = int(odds.argmax())
    recalled = tuple(given_to(came, one) for one in evidence)
    places = tuple(e.places(certainty=float(odds[likeliest]), model_likeliest=likeliest) for e in evidence)
    return Observation(model=float(odds[came]), recalled=recalled, places=places)


def given_to(came: int, evidence: MatchEvidence) -> float:
    """The share of a piece of evidence's counts that belong to a token."""
    at = int(np.searchsorted(evidence.tokens, came))
    hit = at < len(evidence.tokens) and evidence.tokens[at] == came
    return float(evidence.counts[at] / evidence.counts.sum()) if hit else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """The observations as arrays: `places[part]` are flat indices into the table's part, -1 if there is none."""

    model: torch.Tensor
    recalled: torch.Tensor
    present: torch.Tensor
    kept: torch.Tensor
    added: torch.Tensor
    places: dict[str, torch.Tensor]

    @classmethod
    def of(
        cls, observations: Sequence[Observation], layout: Mapping[str, tuple[int, ...]] = LAYOUT
    ) -> Arrays:
        count = len(observations)
        recalled = np.zeros((count, MOST), np.float32)
        present = np.zeros((count, MOST), np.float32)
        places = {part: np.zeros((count, MOST), np.int64) for part in layout}
        for row, seen in enumerate(observations):
            for column, (share, at) in enumerate(zip(seen.recalled, seen.places, strict=True)):
                recalled[row, column], present[row, column] = share, 1
                for part, place in at.items():
                    places[part][row, column] = np.ravel_multi_index(place, layout[part])
        return cls(
            model=torch.tensor([seen.model for seen in observations]),
            recalled=torch.from_numpy(recalled),
            present=torch.from_numpy(present),
            kept=torch.tensor([seen.kept for seen in observations]),
            added=torch.tensor([seen.added for seen in observations]),
            places={part: torch.from_numpy(value) for part, value in places.items()},
        )

    def foretold(self, table: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """The blended probability of the observed tokens."""
        total = sum(table[part].flatten()[place[rows]] for part, place in self.places.items())
        assert isinstance(total, torch.Tensor)
        weights = torch.sigmoid(total) * self.present[rows]
        mixed = self.model[rows]
        for column in range(MOST):
            weight = weights[:, column]
            mixed = (1 - weight) * mixed + weight * self.recalled[rows, column]
        return self.kept[rows] * mixed + self.added[rows]


def fit(
    observations: Sequence[Observation],
    layout: Mapping[str, tuple[int, ...]] = LAYOUT,
    *,
    epochs: int = EPOCHS,
) -> dict[str, torch.Tensor]:
    """The table that maximises the likelihood of the observed tokens. Deterministic."""
    arrays = Arrays.of(observations, layout)
    table = {part: torch.zeros(shape) for part, shape in layout.items()}
    table["base"] -= 1.5
    for value in table.values():
        value.requires_grad_(True)
    optimiser = torch.optim.Adam(table.values(), lr=RATE)
    draw = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for rows in torch.split(torch.randperm(len(observations), generator=draw), BATCH):
            loss = -arrays.foretold(table, rows).clamp_min(1e-9).log().mean()
            pull = sum((value**2).sum() for part, value in table.items() if part != "base")
            optimiser.zero_grad()
            (loss + PULL * pull).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return {part: value.detach() for part, value in table.items()}


def bits(
    project: ObservedProject,
    table: dict[str, torch.Tensor] | None,
    layout: Mapping[str, tuple[int, ...]] = LAYOUT,
) -> float:
    """Bits per byte of a project's measured files; without a table, of the model and the memories blended later."""
    arrays = Arrays.of(project.observations, layout)
    rows = torch.arange(len(project.observations))
    odds = arrays.kept * arrays.model + arrays.added if table is None else arrays.foretold(table, rows)
    return float(-odds.clamp_min(1e-12).log2().sum() / project.bytes)


def main() -> None:
    """Observes the tokens, fits the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=user_cache(), help="where corpora are kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=TOKENS_PER_PROJECT, help="read of each project")
    options = parser.parse_args()
    texts: dict[str, list[str]] = {}
    for document in read_corpus(options.cache, "tuning"):
        texts.setdefault(document.project, []).append(document.text)
    projects = [observe(rows, name, tokens=options.tokens) for name, rows in texts.items()]
    figures: dict[str, Any] = {}
    for project in projects:
        others = [seen for other in projects if other is not project for seen in other.observations]
        figures[project.name] = {
            "tokens": len(project.observations),
            "model_bits_per_byte": round(bits(project, None), 4),
            "with_memory_bits_per_byte": round(bits(project, fit(others)), 4),
        }
        print(json.dumps({project.name: figures[project.name]}), flush=True)  # noqa: T201 - a script's progress
    table = fit([seen for project in projects for seen in project.observations])
    written = {
        "foretold_by_the_others": figures,
        "table": {part: np.round(value.numpy().astype(float), 3).tolist() for part, value in table.items()},
    }
    options.out.write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    main()
