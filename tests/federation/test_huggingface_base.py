"""A federation whose base is a Hugging Face model on every member's disk: a whole round, with one member training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tests.federation import inprocess
from tokenizers import models, pre_tokenizers, trainers
from typer.testing import CliRunner

from sordino_client.commands import app as client
from sordino_client.round.member import Member
from sordino_client.settings import load_member_settings, member_settings_text
from sordino_coordinator.federation import Federation
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.charter import HuggingFaceTerms
from sordino_platform.doctor.command import examine
from sordino_platform.doctor.finding import CheckState, Finding
from sordino_platform.huggingface_model import describe
from sordino_privacy.errors import ConfigurationError


def write_base(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["def add(left, right):\n    return left + right\n"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_repository(folder: Path, *, files: int = 24, values: int = 12) -> Path:
    """`files` modules, each in a folder of its own, so that each is a cluster."""
    for number in range(files):
        names = [f"value_{number}_{index}" for index in range(values)]
        lines = [f"def compute_{number}({', '.join(names)}):", *(f"    {name} += {number}" for name in names)]
        path = folder / f"part_{number}" / f"module_{number}.py"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join([*lines, f"    return {' * '.join(names)}", ""]))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("huggingface")
    base = write_base(folder / "base")
    inprocess.found_in(
        folder / "federation",
        model=HuggingFaceTerms.of(describe(base, rank=2)),
        of_members={
            "base_model": str(base),
            "repositories": [str(write_repository(folder / "repository"))],
            "minimum_units": 4,
            "heldout_share": 0.0,
        },
    )
    return folder / "federation"


@pytest.fixture(scope="module")
def trained(place: Path) -> Federation:
    """The coordinator's side after a round in which alder really trained, in a child."""
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        grid = inprocess.InProcessGrid(members, run=7)
        for name, member in members.items():
            if name != "alder":
                inprocess.store_update(member, federation, 1, 0.001)
        SecureFedAvg(federation).one_round(grid)
        assert members["alder"].epsilon_spent() > 0
    return federation


def test_adapters_are_trained_summed_and_released_and_the_base_goes_nowhere(
    place: Path, trained: Federation
) -> None:
    row = trained.rounds.rounds()[0]
    assert row.outcome is Outcome.COMPLETED
    assert "alder" in row.members
    change = trained.releases.vector(1) - trained.releases.vector(0)
    # What travels are the adapters, nothing of the size of the base.
    terms = trained.charter.model
    assert isinstance(terms, HuggingFaceTerms)
    assert change.size == sum(2 * (layer.outputs + layer.inputs) for layer in terms.layers)
    # Four members sent 0.001 in every coordinate; the fifth sent noise and what it learned.
    assert float(np.abs(change - 0.0008).max()) > 1e-3
    adapter = place / "members" / "alder" / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 2
    assert (adapter / "adapter_model.safetensors").stat().st_size > change.nbytes

    facts = json.loads(
        CliRunner().invoke(client, ["ledger", "--json", "--folder", str(place / "members" / "alder")]).stdout
    )
    assert facts["planned"]["rounds_left"] > 0
    assert facts["rounds"][0]["epsilon_after"] == facts["epsilon_spent"] == facts["epsilon_of_a_window"]


@pytest.mark.usefixtures("trained")
def test_the_ledger_is_drawn_and_said_in_words(place: Path, tmp_path: Path) -> None:
    picture = tmp_path / "ledger.png"
    folder = str(place / "members" / "alder")
    done = CliRunner().invoke(
        client, ["ledger", "--folder", folder, "--picture", str(picture), "--author", "2"]
    )
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "one more round like the last" in done.output
    assert "of a person who wrote 2 file clusters" in done.output


def test_a_member_that_does_not_have_the_base_is_told_what_to_do(place: Path) -> None:
    with Member.open(place / "members" / "birch") as member:
        member.settings = member.settings.model_copy(update={"base_model": None})
        with pytest.raises(ConfigurationError, match="that is not here"):
            member.prepared(window=64)


def test_doctor_says_that_the_base_is_missing_or_another_one(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cedar"
    shutil.copytree(place / "members" / "cedar", folder)

    def finding() -> Finding:
        return next(one for one in examine(folder) if one.check == "base model")

    def base(there: Path | None) -> None:
        settings = load_member_settings(folder).model_copy(
            update={"base_model": None if there is None else str(there)}
        )
        (folder / "member.toml").write_text(member_settings_text(settings))

    assert finding().state is CheckState.OK
    base(None)
    assert (finding().state, "that is not here" in finding().said) == (CheckState.FAILED, True)
    other = tmp_path / "other"
    shutil.copytree(place.parent / "base", other)
    (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text() + "\n")
    base(other)
    assert "is not the one that the charter names" in finding().said
    assert finding().hint.startswith("fetch the very files")
    base(tmp_path / "nowhere")
    assert finding().state is CheckState.FAILED
