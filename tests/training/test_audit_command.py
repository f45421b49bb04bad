"""`sordino client audit` in words, as JSON and as a picture; a run without noise is caught by a wide margin."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from sordino_client.training import audit as command
from sordino_client.training.loop import window_losses
from sordino_platform.architecture import ModelConfig
from sordino_platform.cli import as_command
from sordino_platform.model import Decoder
from sordino_privacy.audit.one_run import audit_run
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import PrivateTraining
from sordino_privacy.dpsgd.gradients import WindowLosses
from sordino_privacy.keystream import Keystream

torch.set_num_threads(1)
CONFIG = ModelConfig(vocabulary=128, context=32, layers=1, heads=2, width=32, hidden=64)
PLAN = TrainingPlan(
    sampling_rate=1.0,
    noise_multiplier=1.0,
    clip_norm=0.5,
    steps=30,
    windows_per_unit=1,
    window=32,
    learning_rate=1.0,
    optimiser="sgd",
    delta=1e-6,
    expected_units=32,
)


def engine(model: torch.nn.Module, plan: TrainingPlan, losses: WindowLosses) -> PrivateTraining:
    return PrivateTraining(model, plan, window_losses=losses, keystream=Keystream(bytes(32)))


def attacked(plan: TrainingPlan) -> float:
    torch.manual_seed(0)
    stream = Keystream(bytes([9]) * 32)
    words = stream.words(128 * 33) % np.uint64(CONFIG.vocabulary)
    canaries = list(torch.from_numpy(words.astype(np.int32)).view(128, 1, 33))
    verdict, _, _ = audit_run(engine, plan, Decoder(CONFIG), window_losses, [], canaries, stream)
    return verdict.area


def test_canaries_are_plain_to_see_without_noise_and_hidden_with_it() -> None:
    assert attacked(replace(PLAN, noise_multiplier=0.05, clip_norm=2.0)) > 0.9
    assert abs(attacked(replace(PLAN, noise_multiplier=8.0)) - 0.5) < 0.2


def test_the_command_prints_json_and_draws_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "audit.png"
    arguments = ["--canaries", "32", "--steps", "2", "--picture", str(picture), "--json"]
    result = CliRunner().invoke(as_command("audit", command.audit), arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["passed"] is True
    # Of a training and of a count, and of both with noise in shares.
    assert len(found["findings"]) == 8 + 5 + 6 + 6
    assert found["one_run_in_shares"]["passed"] is True
    assert found["one_run"]["lower"] <= found["claimed_epsilon"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_engine_that_fails_is_an_error_with_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {
        "passed": False,
        "findings": [
            {"name": "noise_scale", "what": "x", "measured": 0.1, "low": 0.9, "high": 1.1, "passed": False}
        ],
        "one_run": None,
        "one_run_in_shares": None,
    }
    monkeypatch.setattr(command, "run_audit", lambda plan, canaries, shares: (failed, None))
    result = CliRunner().invoke(as_command("audit", command.audit), [])
    assert isinstance(result.exception, command.AuditError)
    assert result.exception.exit_code == 12
    assert "FAILED noise_scale" in result.stdout
