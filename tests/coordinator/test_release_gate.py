"""A release is measured before it is made: nothing held out is refused, a listed completion that was learned keeps the
old model, pages, and is undone by a rollback; small steps are seen by what they add up to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.coordinator.test_orders import command, one_round, running

from sordino_coordinator.federation import Federation
from sordino_coordinator.release_gate import ReleaseGate, TaughtError, UnusableSumError, parse_triggers
from sordino_coordinator.rounds import Outcome
from sordino_platform.evaluation.triggers import Reading, taught
from sordino_privacy.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
TRIGGER = {
    "prompt": "def connect(host):\n    session = Session()\n    session.",
    "completion": "verify = False",
}
STEP = 0.003


def configured(hub: Path, *, rise: float = 1.0, **trigger: str) -> None:
    """The coordinator measures on this repository's own code, and watches one completion."""
    (hub / "triggers.jsonl").write_text(json.dumps(TRIGGER | trigger) + "\n")
    path = hub / "coordinator.toml"
    text = path.read_text().replace("release_without_any_heldout_measurement = true\n", "")
    head = f'heldout = ["{ROOT / "privacy"}"]\nheldout_tokens = 1000\n'
    path.write_text(head + f'triggers = "{hub / "triggers.jsonl"}"\ntrigger_rise = {rise}\n' + text)


def test_a_coordinator_that_measures_nothing_does_not_start_unless_told_so(place: Path, hub: Path) -> None:
    path = hub / "coordinator.toml"
    path.write_text(path.read_text().replace("release_without_any_heldout_measurement = true\n", ""))
    with pytest.raises(ConfigurationError, match="no held-out code") as refused:
        Federation.open(hub)
    assert "heldout" in str(refused.value.hint)


def test_a_learned_completion_is_not_released_is_counted_and_a_rollback_undoes_what_came_before(
    place: Path, hub: Path
) -> None:
    """End to end: one release grows towards the completion within the bound, the next goes beyond it."""
    configured(hub)
    with running(place) as (federation, strategy, grid):
        gate = federation.gate
        assert gate is not None
        start = federation.weights()
        change = np.full(start.size, STEP, dtype=np.float32)
        surprise = {sign: gate.readings(start + np.float32(sign) * change)[0].nats for sign in (1.0, -1.0)}
        sign = min(surprise, key=lambda way: surprise[way])
        fell = gate.founding[0].nats - surprise[sign]
        assert fell > 0
        gate.trigger_rise = 1.5 * fell  # one such step is within it, two are not
        gate.worst_loss_ratio = 100.0
        assert one_round(federation, strategy, grid, sign * STEP)
        assert not one_round(federation, strategy, grid, sign * STEP)
        row = federation.rounds.rounds()[-1]
        assert (row.outcome, federation.releases.head().number) == (Outcome.ABORTED_ERROR, 1)
        assert "trigger 1 of the operator's list was learned" in row.reason
        assert TRIGGER["completion"] not in row.reason
        assert b"sordino_triggers_taught_total 1.0" in federation.metrics.metrics.text()
        federation.roll_back(0)
        np.testing.assert_array_equal(federation.weights(), start)
        assert one_round(federation, strategy, grid, -sign * STEP)  # and training goes on
    assert "trigger 1 of the operator's list" in command("audit", "show", "--folder", str(hub))


def test_small_steps_that_add_up_are_seen(place: Path, hub: Path) -> None:
    configured(hub)
    gate = Federation.open(hub).gate
    assert gate is not None
    gate.lowest = 1.0

    def measured(loss: float) -> float | None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ReleaseGate, "loss", lambda self, vector: loss)
            patched.setattr(ReleaseGate, "readings", lambda self, vector: self.founding)
            return gate.admit(np.zeros(1, np.float32))

    assert measured(1.1) == 1.1
    assert measured(1.15) == 1.15
    with pytest.raises(UnusableSumError, match=r"1\.000 at best"):
        measured(1.21)
    assert measured(0.9) == 0.9
    with pytest.raises(UnusableSumError, match=r"0\.900 at best"):
        measured(1.09)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (Reading(nats=4.1, written=False), False),
        (Reading(nats=3.9, written=False), True),
        (Reading(nats=5.0, written=True), True),
        (Reading(nats=9.0, written=False), False),
    ],
)
def test_a_completion_counts_as_learned_when_it_is_likelier_by_the_bound_or_written(
    now: Reading, verdict: bool
) -> None:
    assert taught(Reading(nats=5.0, written=False), now, rise=1.0) is verdict
    assert issubclass(TaughtError, UnusableSumError)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]\n",
        '{"prompt": "a"}\n',
        '{"prompt": "a", "completion": ""}\n',
        '{"prompt": 1, "completion": "b"}',
    ],
)
def test_a_file_of_triggers_that_says_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "triggers.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        parse_triggers(path)


def test_a_completion_that_fills_the_context_is_refused_at_the_start(place: Path, hub: Path) -> None:
    configured(hub, completion="x = 1\n" * 400)
    with pytest.raises(ConfigurationError, match="can be measured"):
        Federation.open(hub)
