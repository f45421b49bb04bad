"""The search of plans: its split, its noise, and that what was tried is never tried again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sordino_client.laboratory.federation_benchmark import private
from sordino_client.laboratory.plan_search.proxies import Proxies
from sordino_client.laboratory.plan_search.search import DIMENSIONS, Search
from sordino_client.laboratory.plan_search.trial import Candidate, Setting, gain
from sordino_client.laboratory.pretrain.field import MEMBERS, NEWCOMERS, PROXIES
from sordino_client.training.stream import SourceDocument
from sordino_platform import base
from sordino_privacy.accounting import SampledGaussian, epsilon
from sordino_privacy.dpsgd.engine import PrivateTraining


def document(project: str, file: int) -> SourceDocument:
    text = "".join(
        f"def {project}_{file}_{n}(context):\n    return context.take('{project}', {n * file})\n\n\n"
        for n in range(12)
    )
    return SourceDocument(
        project=project, path=f"{project}/p{file % 3}/part{file}.py", language="python", text=text
    )


def documents() -> list[SourceDocument]:
    return [document(name, file) for name in ("alpha", "beta", "gamma", "delta") for file in range(1, 9)]


def test_what_measures_does_not_train_and_neither_is_of_the_field() -> None:
    found = Proxies.of(documents())
    training, measured = ({one.project for one in side} for side in (found.training, found.measured))
    assert training
    assert measured
    assert training.isdisjoint(measured)
    field = {one.name for one in (*MEMBERS, *NEWCOMERS)}
    assert field.isdisjoint(one.name for one in PROXIES)


@pytest.mark.parametrize("budget", [8.0, 2.0])
def test_every_candidates_noise_keeps_its_rounds_within_the_budget(budget: float) -> None:
    tried = [
        Candidate(),
        *(replace(Candidate(), **change) for _, changes in DIMENSIONS for change in changes),
    ]
    for one in {(one.sampling, one.rounds): one for one in tried}.values():
        event = SampledGaussian(
            sampling_rate=one.sampling, noise_multiplier=one.noise(budget), steps=one.rounds
        )
        assert 0.5 * budget < epsilon([event], 1e-6).value <= budget


def test_a_trials_mean_carries_the_noise_of_the_whole_federation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number of clusters is read, the mean's noise is sigma C / (q N)."""
    plans = []

    class Seen(PrivateTraining):
        def __init__(self, model, plan, **rest):  # type: ignore[no-untyped-def]
            plans.append(plan)
            super().__init__(model, plan, **rest)

    monkeypatch.setattr(private, "PrivateTraining", Seen)
    _, tokenizer, _ = base.load()
    candidate = Candidate(rank=1, embedding_rank=0, rounds=1, window=32)
    units = Proxies.of(documents()).units(tokenizer, window=32)
    for read in (4, 8):
        gain(candidate, Setting(epsilon=8.0, clusters=5000, read=read), units, lambda plain: 1.0, seed=1)
    expected = candidate.noise(8.0) * candidate.clip / (candidate.sampling * 5000)
    # The engine never trains with less than 0.05 of its own clip.
    floors = [0.05 * candidate.clip / plan.expected_units for plan in plans]
    found = [plan.noise_deviation() for plan in plans]
    assert found == pytest.approx([max(expected, floor) for floor in floors])
    small = gain(
        candidate, Setting(epsilon=2.0, clusters=100, read=8), units, lambda plain: float(np.inf), seed=1
    )
    assert plans[-1].noise_deviation() == pytest.approx(candidate.noise(2.0) * candidate.clip / (0.1 * 100))
    assert small["bits_per_byte"] == float("inf")


def test_what_was_tried_is_kept_and_not_tried_again(tmp_path: Path) -> None:
    said: list[str] = []
    search = Search(
        folder=tmp_path,
        proxies=Proxies.of(documents()),
        setting=Setting(epsilon=8.0, clusters=5000, read=4),
        on_progress=said.append,
    )
    start = Candidate(rank=1, embedding_rank=0, rounds=1, window=32)
    dimensions = (("rate", ({"rate": 0.8},)),)
    first = search.run(start, dimensions)
    assert len(said) == len(first["trials"]) == 2
    assert search.run(start, dimensions) == json.loads(json.dumps(first))
    assert len(said) == 2
