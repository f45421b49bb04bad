"""The poisoning benchmark's liar keeps to what a defence allows it, and the whole runs on what is installed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sordino_client.laboratory.poisoning_benchmark.attack import ATTACKS, Backdoor, Liar
from sordino_client.laboratory.poisoning_benchmark.federation import (
    former_limit,
    honest_limit,
    mean_limit,
    sketched_limit,
)
from sordino_client.laboratory.poisoning_benchmark.profile import QUICK
from sordino_platform.architecture import flatten
from sordino_platform.charter import shipped_model
from sordino_platform.founding_model import founding_parameters
from sordino_platform.proposal import quantiser_for
from sordino_platform.tokenizer import Tokenizer

TEXTS = [path.read_text() for path in sorted((Path(__file__).parents[2] / "privacy").rglob("*.py"))][:24]


def test_the_liars_update_is_as_long_as_it_may_be_and_within_the_range_and_moves_towards_its_completion() -> (
    None
):
    terms = shipped_model(adapter_rank=1)
    config, parameters = terms.config(), founding_parameters(terms)
    door = Backdoor.of("listed", TEXTS, training=16, heldout=8)
    assert not {one.prompt for one in door.training} & {one.prompt for one in door.heldout}
    assert all(one.prompt.endswith(ATTACKS["listed"][0]) for one in (*door.training, *door.heldout))
    liar = Liar(door, config, parameters, Tokenizer.shipped(), steps=4, seed=1)
    vector = flatten(config, parameters)
    ranges = np.full(vector.size, 0.05, np.float32)
    update = liar.update(vector, members=8, longest=0.5, ranges=ranges)
    assert 0.3 < float(np.linalg.norm(update)) <= 0.5 * (1 + 1e-5)
    assert float(np.abs(update).max()) <= np.float32(0.05)


def test_each_defence_leaves_a_liar_less_than_the_one_before() -> None:
    plan, config = QUICK.plan(), shipped_model(adapter_rank=1).config()
    quantiser = quantiser_for(config, plan, members=8)
    left = [limit(plan, quantiser, 8) for limit in (former_limit, mean_limit, sketched_limit, honest_limit)]
    assert left == sorted(left, reverse=True)
    assert left[0] > 2 * left[1] > 2 * left[2]


@pytest.mark.slow
def test_the_quick_profile_runs_and_says_all_that_the_page_says() -> None:
    command = [sys.executable, "-P", "-m", "sordino_platform.cli", "bench", "poisoning", "--quick", "--json"]
    done = subprocess.run(
        [*command, "--defence", "mean, listed"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["honest_limit"] < report["sketched_limit"]
    (run,) = report["runs"]
    assert len(run["success"]) == len(run["heldout_loss"]) == QUICK.rounds + 1
    assert run["success"][0] == 0.0
    assert run["times_an_honest_limit"] > 1
