"""The training child counts: what a member's own process does with the job of a round that counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sordino_client.training import TrainingJob
from sordino_client.training.counting import cells_of
from sordino_client.training.job import finished, write_units
from sordino_client.training.loop import Trainer
from sordino_platform import base
from sordino_platform.model import build_decoder
from sordino_privacy.counts import CountPlan, SharedMemory


def test_the_child_counts_the_phrases_that_surprise_the_model_and_adds_the_noise(tmp_path: Path) -> None:
    config, tokenizer, parameters = base.load(None)
    save_file(dict(parameters), tmp_path / "weights.safetensors")
    phrase = tokenizer.encode("zqx_frobnicate(wibble, kwijibo)\n")
    rng = np.random.default_rng(0)
    units = [
        [np.array([*rng.integers(10, 4096, 40), *phrase, *rng.integers(10, 4096, 10)], np.uint16)]
        for _ in range(30)
    ]
    write_units(tmp_path / "units.npz", units)
    plan = CountPlan(
        bits=16, noise_multiplier=0.05, largest_count=20, witnesses=2, delta=1e-6, salt=2, window=128
    )
    job = TrainingJob(
        folder=tmp_path / "job",
        config=config,
        weights=tmp_path / "weights.safetensors",
        units=tmp_path / "units.npz",
        plan=plan,
    )
    job.write()
    Trainer().run(TrainingJob.read(job.folder), lambda _: None)
    update = finished(job)
    assert update is not None
    counts = update.vector()
    assert counts.shape == (plan.cells,)
    quiet = counts[np.abs(counts) < plan.largest_count / 2]
    assert 0.9 < float(quiet.std()) / plan.deviation() < 1.6, "noise in every cell, and a few stray counts"
    # One member alone never reaches a threshold: three of it do.
    memory = SharedMemory.of_sum(3 * counts, plan, survivors=3, step=1.0)
    foretold = {
        int(token)
        for place in range(2, len(phrase))
        for one in memory.follows(phrase[:place], vocabulary=tokenizer.size)
        for token in one.tokens
        if token == phrase[place]
    }
    assert len(foretold) >= (len(set(phrase[2:])) + 1) // 2


def test_of_a_long_unit_only_the_plans_windows_are_read_spread_over_all_of_it() -> None:
    config, _, parameters = base.load(None)
    model = build_decoder(config, parameters).eval()
    rng = np.random.default_rng(1)
    windows = [rng.integers(10, 4096, 20).astype(np.uint16) for _ in range(9)]

    def cells(unit: list[np.ndarray], most: int) -> set[int]:
        plan = CountPlan(
            noise_multiplier=1.0, largest_count=1, delta=1e-6, salt=2, window=32, windows_per_unit=most
        )
        return set(cells_of(unit, model, plan, vocabulary=config.vocabulary, end=config.end).tolist())

    three = cells([windows[0], windows[4], windows[8]], 9)
    assert cells(windows, 3) == three
    assert three < cells(windows, 9)
