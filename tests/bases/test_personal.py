"""The personal adapter on a base: on top of the federation's adapters, made of the member's own code, and served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file
from tests.completion import foreign_bases
from tests.completion.foreign_bases import CONTEXT
from tests.completion.test_bases_served import assert_same_text
from tests.federation import inprocess
from typer.testing import CliRunner

from sordino_client.commands import app as client
from sordino_client.completion import personal
from sordino_client.completion.engine import Engine
from sordino_client.training.job import read_units, write_units
from sordino_client.training.on_base import Means
from sordino_client.training.personal import Adapted, adapt
from sordino_platform import bases
from sordino_platform.architecture import shapes
from sordino_platform.charter import HuggingFaceTerms
from sordino_platform.huggingface_model import describe, load_base_model
from sordino_platform.release import write_base_bundle
from sordino_privacy.errors import ConfigurationError

torch.set_num_threads(1)
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.usefixtures("own_priority"),
]


def released(state: Path, folder: Path, rank: int = 3) -> dict[str, Any]:
    """A release on a base in a completion folder; its adapters, of another rank than the personal one."""
    rng = np.random.default_rng(1)
    config = describe(folder, rank=rank)
    factors = {n: (rng.standard_normal(s) * 0.1).astype(np.float32) for n, s in shapes(config).items()}
    write_base_bundle(state / "serving", bases.find_base(str(folder)), factors, release=3)
    return factors


def habit(path: Path) -> Path:
    """Forty units of one and the same sentence."""
    row = np.random.default_rng(1).integers(4, foreign_bases.VOCABULARY, 30).astype(np.uint16)
    write_units(path, [[row] for _ in range(40)])
    return path


def made(state: Path, units: Path, **given: Any) -> Adapted:
    return adapt(state, units, rank=2, steps=40, seed=0, **given)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_it_learns_a_habit_on_top_of_the_release_and_is_served_as_transformers_reads_both(
    name: str, tmp_path: Path
) -> None:
    folder = foreign_bases.write(tmp_path / name, name)
    state = tmp_path / "completion"
    under = released(state, folder)
    done = made(state, habit(tmp_path / "u.npz"))
    assert (done.kept, done.release) == (True, f"{name}-3")
    assert done.after < done.before - 0.03
    own = load_file(personal.place(state))
    judge = load_base_model(folder, describe(folder, rank=2), own, merged=under).eval()

    class Judge:
        def __call__(self, tokens: torch.Tensor) -> Any:
            return transformers.modeling_outputs.CausalLMOutput(logits=judge(tokens))

    engine = Engine(state / "serving", precision="float32")
    engine.refresh(wait=True)
    assert engine.model == f"{name}-3-personal", engine.state
    assert engine._generator is not None
    assert_same_text(engine._generator, Judge())
    engine.close()


def test_how_many_windows_a_pass_holds_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = foreign_bases.write(tmp_path / "llama", "llama")
    released(tmp_path / "completion", folder)
    whole = made(tmp_path / "completion", habit(tmp_path / "u.npz"))
    monkeypatch.setattr("sordino_client.training.device.DEVICE_TOKENS", {"cpu": 90})  # three windows
    parted = made(tmp_path / "completion", tmp_path / "u.npz")
    assert parted.before == pytest.approx(whole.before)
    assert parted.after == pytest.approx(whole.after, abs=2e-3)


def test_a_base_that_does_not_fit_or_changed_leaves_the_adapter_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = foreign_bases.write(tmp_path / "llama", "llama")
    state = tmp_path / "completion"
    released(state, folder)
    personal.store(personal.place(state), {"a.down": np.zeros((1, 1), np.float32)})
    before = personal.place(state).read_bytes()
    monkeypatch.setattr("sordino_client.training.device.TRAINER_BYTES", 2 << 30)
    with pytest.raises(ConfigurationError, match=r"the trainer may use 1\.1 GB"):
        made(state, habit(tmp_path / "u.npz"), means=Means(memory=1 << 30))
    monkeypatch.undo()
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    with pytest.raises(ConfigurationError, match="is not the base any more that completes here"):
        made(state, habit(tmp_path / "u.npz"))
    assert personal.place(state).read_bytes() == before


def test_the_command_adapts_a_members_base_to_its_own_code(tmp_path: Path) -> None:
    folder = foreign_bases.write(tmp_path / "llama", "llama")
    repository = tmp_path / "repository"
    for number in range(40):
        path = repository / f"part_{number}" / f"module_{number}.py"
        path.parent.mkdir(parents=True)
        names = [f"value_{number}_{index}" for index in range(9)]
        lines = [f"def compute_{number}({', '.join(names)}):", *(f"    {one} += {number}" for one in names)]
        path.write_text("\n".join([*lines, f"    return {' * '.join(names)}", ""]))
    inprocess.found_in(
        tmp_path / "federation",
        model=HuggingFaceTerms.of(describe(folder, rank=2)),
        of_members={
            "base_model": str(folder),
            "repositories": [str(repository)],
            "minimum_units": 4,
            "heldout_share": 0.0,
        },
    )
    member = tmp_path / "federation" / "members" / "alder"
    write_base_bundle(member / "completion" / "serving", bases.find_base(str(folder)), {}, release=0)
    done = CliRunner().invoke(
        client, ["adapt", "--folder", str(member), "--rank", "2", "--steps", "20", "--json"]
    )
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout.splitlines()[-1])
    assert (facts["kept"], facts["release"]) == (True, "llama")
    (units,) = (member / "corpus").glob("units-*.npz")
    read = read_units(units)
    # In the base's own tokens, in windows that the base can read.
    assert max(int(window.max()) for unit in read for window in unit) < foreign_bases.VOCABULARY
    assert max(window.size for unit in read for window in unit) <= CONTEXT + 1
    engine = Engine(member / "completion" / "serving")
    engine.refresh(wait=True)
    assert engine.model == "llama-personal", engine.state
    engine.close()
