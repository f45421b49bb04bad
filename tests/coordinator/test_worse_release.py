"""A sum that would make the model worse on public held-out code is not released, and the round says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.coordinator.test_orders import command, one_round, running

from sordino_coordinator.rounds import Outcome

ROOT = Path(__file__).parents[2]
VALUE = 0.003


@pytest.mark.parametrize("worse", [True, False])
def test_a_release_that_is_worse_than_the_limit_is_not_made(place: Path, hub: Path, worse: bool) -> None:
    path = hub / "coordinator.toml"
    held = f'heldout = ["{ROOT / "privacy"}"]\nheldout_tokens = 1000\nworst_loss_ratio = 1.0000001\n'
    path.write_text(held + path.read_text())
    with running(place) as (federation, strategy, grid):
        before = federation.weights()
        change = np.full(before.size, VALUE, dtype=np.float32)
        losses = {
            sign: federation.evaluate(before + sign * change) for sign in (np.float32(1), np.float32(-1))
        }
        assert federation.gate is not None
        federation.gate.lowest = (losses[np.float32(1)] + losses[np.float32(-1)]) / 2  # type: ignore[operator]
        sign = max(losses, key=lambda s: (losses[s] or 0.0) * (1 if worse else -1))
        assert one_round(federation, strategy, grid, float(sign) * VALUE) is not worse
        row = federation.rounds.rounds()[-1]
        if not worse:
            assert (row.outcome, federation.releases.head().number) == (Outcome.COMPLETED, 1)
            assert row.loss == pytest.approx(losses[sign], abs=1e-2)
            return
        assert (row.outcome, federation.releases.head().number) == (Outcome.ABORTED_ERROR, 0)
        assert "the old model stays" in row.reason
        np.testing.assert_array_equal(federation.weights(), before)
        assert one_round(federation, strategy, grid, -float(sign) * VALUE)  # and training goes on
    assert "held-out loss would be" in command("audit", "show", "--folder", str(hub))


def test_a_restart_compares_with_what_is_measured_with_now(place: Path, hub: Path) -> None:
    path = hub / "coordinator.toml"
    plain = path.read_text()
    losses = []
    for folder in ("privacy", "coordinator"):
        path.write_text(f'heldout = ["{ROOT / folder}"]\nheldout_tokens = 1000\n' + plain)
        with running(place) as (federation, _, _):
            losses.append(federation.loss)
            assert federation.loss == federation.evaluate(federation.weights())
    assert losses[0] != losses[1]
