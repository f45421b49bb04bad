"""The coordinator measures releases on a base of its own where it has one, and says so where it has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sordino_coordinator.release_gate import ReleaseGate, UnusableSumError, require_measurable
from sordino_coordinator.settings import CoordinatorSettings
from sordino_platform import bases
from sordino_platform.architecture import HuggingFaceConfig, add_adapters, flatten
from sordino_platform.bases.package import PACKAGES
from sordino_platform.charter import PrivacyPolicy
from sordino_platform.huggingface_model import describe
from sordino_platform.suggested import suggested_plan
from sordino_privacy.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
Make = Callable[..., Path]


@pytest.fixture
def config(make_base: Make, tmp_path: Path) -> HuggingFaceConfig:
    return describe(make_base(tmp_path / "base", "llama"), rank=2)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / "public" / f"p{number}").mkdir(parents=True)
        (tmp_path / "public" / f"p{number}" / "a.py").write_text(
            f"def add_{number}(a, b):\n    return a\n" * 20
        )
    return tmp_path / "public"


def settings(**given: Any) -> CoordinatorSettings:
    from dataclasses import asdict

    plan = asdict(suggested_plan(PrivacyPolicy(), context=128))
    return CoordinatorSettings.model_validate({"plan": plan, "heldout_tokens": 2000, **given})


def test_releases_on_a_base_are_measured_and_a_ruined_one_is_refused(
    config: HuggingFaceConfig, public: Path, tmp_path: Path
) -> None:
    bases.add(str(tmp_path / "base"))
    adapters = add_adapters(config, {})
    gate = ReleaseGate.open(settings(heldout=[public], worst_loss_ratio=1.0001), config, adapters)
    assert gate is not None
    start = flatten(config, adapters)
    assert gate.lowest == pytest.approx(gate.loss(start))
    assert gate.lowest is not None
    assert 3 < gate.lowest < 9  # random weights over 300 words
    assert gate.admit(start) == pytest.approx(gate.lowest)
    # A random base has nothing to forget, so of several changes the one that measures worst.
    draws = [np.random.default_rng(seed).standard_normal(start.size).astype(np.float32) for seed in range(6)]
    ruined = max((start + draw for draw in draws), key=lambda vector: gate.loss(vector) or 0.0)
    with pytest.raises(UnusableSumError, match="held-out loss would be"):
        gate.admit(ruined)
    assert gate.admit(start) == pytest.approx(gate.lowest)  # what was refused left nothing behind


def test_a_coordinator_without_the_base_says_that_it_cannot_measure_and_what_to_do(
    config: HuggingFaceConfig, public: Path
) -> None:
    with pytest.raises(ConfigurationError, match=config.base_sha256) as caught:
        ReleaseGate.open(settings(heldout=[public]), config, add_adapters(config, {}))
    assert "sordino base add FOLDER" in caught.value.hint
    with pytest.raises(ConfigurationError) as caught:
        require_measurable(settings(), config)
    assert "is not here" in caught.value.hint
    meant = settings(release_without_any_heldout_measurement=True)
    assert ReleaseGate.open(meant, config, add_adapters(config, {})) is None


def test_a_known_base_is_named_in_the_advice(monkeypatch: pytest.MonkeyPatch, public: Path) -> None:
    package = PACKAGES["smollm2"]
    monkeypatch.setattr(type(package), "find", lambda self: None)
    config = HuggingFaceConfig(
        base_sha256=package.digest, vocabulary=9, context=8, end=0, adapter_rank=1, targets=(("q", 2, 2),)
    )
    with pytest.raises(ConfigurationError) as caught:
        require_measurable(settings(heldout=[public]), config)
    assert "sordino base add smollm2" in caught.value.hint
