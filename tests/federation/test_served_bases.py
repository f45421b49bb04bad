"""A base trained by a federation, released, and served in the editor: the text is transformers' with its adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.completion import foreign_bases
from tests.completion.foreign_bases import FIVE
from tests.completion.test_bases_served import assert_same_text
from tests.federation import inprocess
from tests.federation.test_huggingface_base import write_repository

from sordino_client.completion.engine import Engine
from sordino_client.round.serving import serve
from sordino_coordinator.federation import Federation
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.architecture import add_adapters, unflatten
from sordino_platform.charter import HuggingFaceTerms
from sordino_platform.huggingface_model import describe, load_base_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
SLOW = [name if name == "llama" else pytest.param(name, marks=pytest.mark.slow) for name in FIVE]


@pytest.mark.parametrize("name", SLOW)
def test_a_federation_trains_a_base_and_its_members_serve_what_was_released(
    name: str, tmp_path: Path
) -> None:
    folder = foreign_bases.write(tmp_path / name, name)
    config = describe(folder, rank=2)
    inprocess.found_in(
        tmp_path / "federation",
        model=HuggingFaceTerms.of(config),
        of_members={
            "base_model": str(folder),
            "repositories": [str(write_repository(tmp_path / "repository", files=12, values=8))],
            "minimum_units": 4,
            "heldout_share": 0.0,
        },
    )
    federation = Federation.open(tmp_path / "federation" / "coordinator")
    with inprocess.opened(tmp_path / "federation") as members:
        alder = members["alder"]
        serving = alder.folder / "completion" / "serving"
        serve(alder)
        engine = Engine(serving, precision="float32")
        engine.refresh(wait=True)
        assert engine.model == name, engine.state
        grid = inprocess.InProcessGrid(members, run=7)
        for other, member in members.items():
            if other != "alder":
                inprocess.store_update(member, federation, 1, 0.001)
        SecureFedAvg(federation).one_round(grid)
        assert federation.rounds.rounds()[0].outcome is Outcome.COMPLETED
        vector = alder.releases.vector(1)
    assert "alder" in federation.rounds.rounds()[0].members
    engine.refresh(wait=True)
    assert engine.model == f"{name}-1", engine.state

    adapters = unflatten(config, add_adapters(config, {}), vector)
    assert any(np.abs(value).max() > 1e-3 for key, value in adapters.items() if key.endswith(".up"))
    trained = load_base_model(folder, config, adapters).eval()

    class Judge:
        def __call__(self, tokens: torch.Tensor) -> Any:
            return transformers.modeling_outputs.CausalLMOutput(logits=trained(tokens))

    generator = engine._generator
    assert generator is not None
    assert_same_text(generator, Judge())
    engine.close()
