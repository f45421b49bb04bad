"""Fits the table of completion/memory/shared.py, and estimates the gain from a count plan.

Run as `python -m sordino_client.laboratory.memory_fitting.shared_fitting --out shared_mixture.json`, or without `--out`
to try a plan: `... --phrases 400 --choice turn --longest 6`.

One project is left out. The phrases of all others are counted as in a federation, with noise (field_counts.py). Then
the left-out project is read with the accepted phrases, blended before its own memory, as in serving: once with all its
other files, as a member has them, and once with eight, as a newcomer does. The table maximises the likelihood of its
tokens, with a small penalty towards zero. Each project is also predicted with a table fitted to the others, and these
figures are printed and saved in the file. Phrase lengths that the plan does not count keep their present values in the
table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sordino_client.completion.memory import mixture, shared
from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_client.completion.memory.mixture import MatchEvidence, Table
from sordino_client.completion.memory.shared import LAYOUT, LENGTHS, SharedEvidence, evidence
from sordino_client.laboratory.memory_fitting.field_counts import CountSetting, Field, read_field
from sordino_client.laboratory.memory_fitting.fitting import (
    Observation,
    ObservedProject,
    bits,
    fit,
    given_to,
    pieces,
)
from sordino_client.laboratory.pretrain.commands import user_cache
from sordino_platform import base
from sordino_platform.evaluation import Plan, measured_texts
from sordino_platform.evaluation.loss import score
from sordino_platform.model import build_decoder
from sordino_privacy.counts import Choice, CountPlan

TOKENS_PER_PROJECT = 6_000
FEW = 8
"""Files in a newcomer's own memory."""
FEWEST_FILES = 15
"""Smaller projects are counted but not measured."""


def observe(field: Field, name: str, *, tokens: int, few: bool) -> ObservedProject:
    """Reads a project's measured files with the shared memory of the other projects and an own memory.

    The own memory is blended after the shared one. It holds the project's other files, all or FEW of them.
    """
    config, tokenizer, parameters = base.load(None)
    model = build_decoder(config, parameters).eval()
    memory = field.memory(without=name, seed=name.encode().ljust(32, b"\0")[:32])
    plan = Plan(tokens=tokens, lines=0)
    measured = measured_texts(field.texts[name], tokenizer, plan)
    rest = [text for text in field.texts[name] if text not in measured]
    rest.sort(key=lambda text: hashlib.sha256(text.encode()).digest())
    remembered = {str(number): text for number, text in enumerate(rest[: FEW if few else None])}
    observations: list[Observation] = []
    size, choice = 0, field.plan.choice
    with tempfile.TemporaryDirectory() as folder:
        own = MeasuredMemory(Path(folder), remembered, tokenizer)
        for ids in pieces(measured, tokenizer, plan):
            size += len(tokenizer.decode(ids).encode())

            def mix(
                before: Sequence[int], odds: npt.NDArray[np.float64], ids: list[int] = ids
            ) -> npt.NDArray[np.float64]:
                found = evidence(memory, before, vocabulary=config.vocabulary)
                observations.append(
                    observed(ids[len(before)], odds, found, own(before).evidence(()), choice=choice)
                )
                return odds

            score(model, [ids], mix=mix)
    return ObservedProject(name=name, observations=observations, bytes=size)


def observed(
    came: int,
    odds: npt.NDArray[np.float64],
    found: Sequence[SharedEvidence],
    own: Sequence[MatchEvidence],
    *,
    choice: Choice,
) -> Observation:
    """One observed token with the predictions of the shared memory and of the own memories, which are blended after it.


    The weights of the own memories are those with the shared memory's present table, on which they depend slightly.
    """
    likeliest = int(odds.argmax())
    recalled = []
    for one in found:
        hit = np.flatnonzero(one.foretold.tokens == came)
        recalled.append(float(one.foretold.counts[hit[0]] / one.foretold.counts.sum()) if len(hit) else 0.0)
    places = tuple(e.places(certainty=float(odds[likeliest]), model_likeliest=likeliest) for e in found)
    mixed = shared.blend(odds, found, shared.fitted(choice))
    kept, added = blended_above(mixed, own, came)
    return Observation(
        model=float(odds[came]), recalled=tuple(recalled), places=places, kept=kept, added=added
    )


def blended_above(
    odds: npt.NDArray[np.float64], own: Sequence[MatchEvidence], came: int
) -> tuple[float, float]:
    """The factor by which the own memories multiply the probability of `came`, and the part that they add.

    Both use the present weights.
    """
    likeliest = int(odds.argmax())
    kept, added, table = 1.0, 0.0, mixture.fitted()
    for one in own:
        places = one.places(certainty=float(odds[likeliest]), model_likeliest=likeliest)
        weight = 1 / (1 + np.exp(-sum(float(table[part][place]) for part, place in places.items())))
        kept *= 1 - weight
        added = (1 - weight) * added + weight * given_to(came, one)
    return float(kept), float(added)


def bits_saved(
    projects: Sequence[ObservedProject], said: Callable[[str, dict[str, float]], None]
) -> tuple[Sequence[float], Sequence[float]]:
    """The bits per byte that a table fitted to the other projects saves on each project.

    There are two figures for each: with all its files in its own memory, and with FEW. `projects` are pairs of these
    two cases. `said` is called for each project.
    """
    saved: tuple[list[float], list[float]] = ([], [])
    for number, project in enumerate(projects):
        others = [seen for other in projects if other.name != project.name for seen in other.observations]
        before, after = bits(project, None, LAYOUT), bits(project, fitted_to(others), LAYOUT)
        saved[number % 2].append(before - after)
        said(
            f"{project.name}, {'eight files' if number % 2 else 'all files'} in its own memory",
            {
                "tokens": len(project.observations),
                "foretold": sum(bool(seen.places) for seen in project.observations),
                "without_bits_per_byte": round(before, 4),
                "with_memory_bits_per_byte": round(after, 4),
            },
        )
    return saved


def fitted_to(observations: Sequence[Observation]) -> dict[str, torch.Tensor]:
    """The fitted table. Tokens for which the memory had no evidence are left out."""
    return fit([seen for seen in observations if seen.places], LAYOUT)


def completed(table: Mapping[str, torch.Tensor], before: Table, plan: CountPlan) -> dict[str, list[Any]]:
    """The fitted table. Lengths that the plan does not count keep the values of `before`."""
    counted = np.isin(
        np.arange(len(LENGTHS) + 1), np.searchsorted(LENGTHS, range(plan.shortest, plan.longest + 1))
    )
    return {
        part: np.round(
            np.where(counted.reshape(-1, *[1] * (value.ndim - 1)), value.numpy().astype(float), before[part]),
            3,
        ).tolist()
        for part, value in table.items()
    }


def summary(saved: Sequence[float]) -> dict[str, float]:
    """The mean, its standard error, the mean without the two largest gains, and the share of projects that gain."""
    ordered = np.sort(saved)
    return {
        "mean": round(float(ordered.mean()), 4),
        "standard_error": round(float(ordered.std(ddof=1) / np.sqrt(len(ordered))), 4),
        "without_the_two_highest": round(float(ordered[:-2].mean()), 4),
        "better": round(float((ordered > 0).mean()), 2),
    }


def main() -> None:
    """Counts the phrases, observes the tokens, fits the table and writes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=user_cache(), help="where corpora are kept")
    parser.add_argument("--out", type=Path, help="the file of tables, whose table of this choice is replaced")
    parser.add_argument("--tokens", type=int, default=TOKENS_PER_PROJECT, help="read of each project")
    for one in fields(CountSetting):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=type(one.default), default=one.default)
    options = vars(parser.parse_args())
    torch.set_num_threads(1)
    setting = CountSetting(**{one.name: options[one.name] for one in fields(CountSetting)})
    field = read_field(options["cache"], setting)
    measured = [name for name, texts in field.texts.items() if len(texts) >= FEWEST_FILES]
    projects = [
        observe(field, name, tokens=options["tokens"], few=few) for name in measured for few in (False, True)
    ]
    figures: dict[str, Any] = {}

    def said(name: str, found: dict[str, float]) -> None:
        figures[name] = found
        print(json.dumps({name: found}), flush=True)  # noqa: T201 - a script's progress

    every, few = bits_saved(projects, said)
    report = {
        "setting": asdict(setting),
        "saved_with_eight_files": summary(few),
        "saved_with_all": summary(every),
    }
    print(json.dumps(report), flush=True)  # noqa: T201 - a script's result
    out: Path | None = options["out"]
    if out is not None:
        table = fitted_to([seen for project in projects for seen in project.observations])
        document = json.loads(out.read_text("utf-8"))
        document["foretold_by_the_others"][setting.choice] = figures
        document["fitted_under"] = document.get("fitted_under", {}) | {setting.choice: report}
        document["tables"][setting.choice] = completed(table, shared.fitted(setting.choice), field.plan)
        out.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
