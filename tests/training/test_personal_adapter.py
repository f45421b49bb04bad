"""Making the personal adapter: it learns what the release did not know, and is kept only if it helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sordino_client.completion import bundle as bundles
from sordino_client.completion import personal
from sordino_client.training.job import write_units
from sordino_client.training.personal import adapt
from sordino_client.training.pull import PULLS
from sordino_platform.architecture import ModelConfig, shapes
from sordino_platform.release import write_serving_bundle
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError, UsageError

CONFIG = ModelConfig(vocabulary=512, context=32, layers=1, heads=2, width=24, hidden=32)

pytestmark = pytest.mark.usefixtures("own_priority")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(
        Tokenizer.train(["def add(left, right): return left + right\n"], vocabulary=512).to_json()
    )
    random = np.random.default_rng(0)
    weights = {n: (random.standard_normal(s) * 0.2).astype(np.float32) for n, s in shapes(CONFIG).items()}
    write_serving_bundle(tmp_path / "state" / "serving", CONFIG, weights, tokenizer, release=3)
    return tmp_path / "state"


def units(path: Path, count: int, *, seed: int | None) -> Path:
    """Units with one habit, the same sentence in each; without a seed, random tokens that teach nothing."""
    random = np.random.default_rng(1)
    habit = random.integers(4, 512, 30)
    rows = [habit if seed is not None else random.integers(4, 512, 30) for _ in range(count)]
    write_units(path, [[row.astype(np.uint16)] for row in rows])
    return path


def test_it_learns_a_habit_and_is_kept_for_the_engine(state: Path, tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    done = adapt(
        state,
        units(tmp_path / "u.npz", 40, seed=0),
        rank=4,
        steps=60,
        seed=0,
        on_step=lambda *of: said.append(of),
    )
    assert done.kept
    assert done.after < done.before - 0.03
    assert said == [(step, 60 * len(PULLS)) for step in range(1, 60 * len(PULLS) + 1)]
    assert done.pull in PULLS
    assert done.release == "sordino-3"
    folder = bundles.current(state / "serving")
    assert folder is not None
    assert personal.folded(bundles.load(folder), [(personal.place(state), 1.0)]).personal


def test_one_that_does_not_help_is_not_kept(state: Path, tmp_path: Path) -> None:
    done = adapt(state, units(tmp_path / "u.npz", 40, seed=None), rank=4, steps=80, seed=0)
    assert done.kept == (done.after < done.before)
    assert personal.place(state).exists() == done.kept


def test_eight_files_are_enough_and_their_adapter_is_kept_only_where_the_two_held_out_agree(
    state: Path, tmp_path: Path
) -> None:
    done = adapt(state, units(tmp_path / "u.npz", 8, seed=0), rank=4, steps=40, seed=0)
    assert done.kept
    assert done.after < done.before


def test_too_little_code_is_refused(state: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few"):
        adapt(state, units(tmp_path / "u.npz", 5, seed=0), rank=4, steps=1)


@pytest.mark.parametrize(("rank", "steps"), [(0, 1), (65, 1), (4, 0)])
def test_an_impossible_request_is_refused(state: Path, tmp_path: Path, rank: int, steps: int) -> None:
    with pytest.raises(UsageError):
        adapt(state, units(tmp_path / "u.npz", 40, seed=0), rank=rank, steps=steps)
