"""The benchmark of private training compares what it says it compares."""

from __future__ import annotations

import pytest
import torch

from sordino_client.laboratory.training_benchmark import command as bench
from sordino_client.laboratory.training_benchmark.plain import WINDOW
from sordino_platform import architecture
from sordino_platform.architecture import ModelConfig
from sordino_privacy.errors import UsageError

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mode at a size that takes milliseconds."""
    config = ModelConfig(vocabulary=4096, context=256, layers=1, heads=2, width=16, hidden=16)
    monkeypatch.setitem(architecture.SIZES, "2.3m", config)


def test_every_mode_steps_and_its_time_is_positive() -> None:
    found = bench.times("2.3m", 8)
    assert set(found) == set(bench.MODES)
    assert all(len(turns) == bench.TURNS["2.3m", 8] and min(turns) > 0 for turns in found.values())


def test_a_ratio_is_the_median_of_neighbouring_steps_and_the_headline_is_batch_32() -> None:
    def turns(ours: float) -> dict[str, list[float]]:
        return {
            "plain": [1.0, 2.0, 1.0],
            "one-pass": [ours, 2 * ours, 9.0],
            "per-unit": [9.0, 9.0, 9.0],
            "hooks": [3.0, 6.0, 27.0],
            "functorch": [30.0],
            "ghost": [40.0],
        }

    found = bench._compared("22m", {8: turns(1.5), 32: turns(1.2)})
    assert found["slowdown_vs_plain_22m"] == 1.2
    assert found["speedup_vs_best_opacus_22m"] == 2.5
    assert found["by_batch_22m"]["batch_8"]["slowdown_vs_plain"] == 1.5
    assert found["by_batch_22m"]["batch_32"]["best_opacus"] == "hooks"
    assert found["by_batch_22m"]["batch_32"]["slowdown_spread"] == [1.2, 9.0]
    assert found["tokens_per_cpu_second_22m"]["batch_32"]["plain"] == 32 * WINDOW


def test_an_unknown_size_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="7b is not a size"):
        bench.dp(as_json=False, size=["7b"], base=None)
