"""Adapters on a Hugging Face base: only they train and travel, and the base's folder can neither run code nor phone."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import tokenizers
import torch
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import models, pre_tokenizers, trainers

from sordino_client.training import TrainingError, TrainingJob, TrainingWorker, write_units
from sordino_client.training.loop import window_losses
from sordino_platform.architecture import HuggingFaceConfig, add_adapters, flatten, shapes, unflatten
from sordino_platform.charter import HuggingFaceTerms
from sordino_platform.founding_model import founding_parameters
from sordino_platform.huggingface import HuggingFaceTokenizer, folder_digest, write_adapter
from sordino_platform.huggingface_model import adapters_of, describe, load_base_model
from sordino_platform.proposal import quantiser_for
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import PrivateTraining, gradients_for
from sordino_privacy.dpsgd.per_unit import PerUnitGradients
from sordino_privacy.dpsgd.selfcheck import self_check
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.keystream import Keystream

torch.set_num_threads(1)
# peft still asks transformers for a property that was renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
END = 1
PLAN = TrainingPlan(
    sampling_rate=0.5,
    noise_multiplier=0.5,
    clip_norm=0.1,
    steps=2,
    windows_per_unit=2,
    window=16,
    learning_rate=0.1,
    optimiser="sgd",
    delta=1e-6,
    expected_units=8,
)
ARCHITECTURES: dict[str, Any] = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=300,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            eos_token_id=END,
            tie_word_embeddings=True,
        )
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=300, n_embd=24, n_layer=2, n_head=4, n_positions=64, eos_token_id=END, bos_token_id=END
        )
    ),
}


def write_base(folder: Path, architecture: str) -> Path:
    """A small model with random weights and a tokenizer of its own, as such folders are published."""
    torch.manual_seed(0)
    model = ARCHITECTURES[architecture]()
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["def add(left, right):\n    return left + right\n"] * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(params=sorted(ARCHITECTURES))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", request.param)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", "llama")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model folder reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def windows(rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, 300, (rows, 9), generator=generator, dtype=torch.int32)


def test_only_the_adapters_are_trainable_and_fresh_ones_change_nothing(
    folder: Path, no_network: None
) -> None:
    config = describe(folder, rank=3)
    model = load_base_model(folder, config, add_adapters(config, {})).eval()
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == flatten(config, adapters_of(model)).size
    assert trainable < sum(p.numel() for p in model.parameters()) / 4
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    plain.eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        assert torch.allclose(model(windows(2)), plain(windows(2).long()).logits, atol=1e-5)


def test_the_output_layer_gets_no_adapter_and_every_other_linear_layer_does(folder: Path) -> None:
    config = describe(folder, rank=3)
    assert not any("lm_head" in name for name, _, _ in config.targets)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    matrices = {
        name.removesuffix(".weight")
        for name, p in plain.named_parameters()
        if p.dim() == 2 and not name.startswith(("transformer.wte", "transformer.wpe", "model.embed"))
    }
    assert {name for name, _, _ in config.targets} == matrices - {"lm_head"}


def test_the_vector_carries_the_adapters_there_and_back(llama: Path) -> None:
    config = describe(llama, rank=2)
    generator = np.random.default_rng(0)
    adapters = {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes(config).items()}
    model = load_base_model(llama, config, adapters)
    vector = flatten(config, adapters_of(model))
    for name, value in unflatten(config, add_adapters(config, {}), vector).items():
        assert np.array_equal(value, adapters[name])


def test_the_engine_agrees_with_brute_force_on_a_foreign_architecture(folder: Path) -> None:
    config = describe(folder, rank=2)
    generator = np.random.default_rng(0)
    adapters = {n: (generator.standard_normal(s) * 0.1).astype(np.float32) for n, s in shapes(config).items()}
    model = load_base_model(folder, config, adapters).train()
    self_check(model, window_losses, PerUnitGradients(model, window_losses), [windows(1), windows(2)])


def test_a_layer_that_the_fast_mode_has_no_rule_for_is_refused_there(tmp_path: Path) -> None:
    # GPT-2's adapters sit on ordinary linear layers, but a bias or norm made trainable does not.
    folder = write_base(tmp_path / "base", "gpt2")
    config = describe(folder, rank=2)
    model = load_base_model(folder, config, add_adapters(config, {})).train()
    next(p for name, p in model.named_parameters() if "ln_1.weight" in name).requires_grad_(True)
    mode = gradients_for("one-pass", model, window_losses)
    with pytest.raises(TypeError, match="no per-unit gradient rule"):
        mode.add([windows(1)], 1.0, torch.zeros(1 << 20))
    with pytest.raises(ConfigurationError, match="no adapter"):
        adapters_of(model)


def test_a_job_trains_adapters_in_the_child_and_only_they_are_in_the_update(
    folder: Path, tmp_path: Path
) -> None:
    config = describe(folder, rank=2)
    adapters = add_adapters(config, {})
    save_file(adapters, tmp_path / "weights.safetensors")
    generator = np.random.default_rng(0)
    # uint32 is what a base with a vocabulary above 65,536 needs.
    units = [[generator.integers(2, 300, 16).astype(np.uint32)] for _ in range(20)]
    write_units(tmp_path / "units.npz", units)
    job = TrainingJob(
        folder=tmp_path / "job",
        config=config,
        weights=tmp_path / "weights.safetensors",
        units=tmp_path / "units.npz",
        plan=PLAN,
        base=folder,
    )
    before = folder_digest(folder)
    with TrainingWorker() as worker:
        update = worker.train(job)
    assert TrainingJob.read(job.folder) == job
    assert update.count == flatten(config, adapters).size
    assert float(np.abs(update.vector()).max()) > 0
    assert update.local.units > 0
    assert folder_digest(folder) == before


def test_training_moves_towards_the_data_when_the_noise_is_small(llama: Path) -> None:
    config = describe(llama, rank=4)
    model = load_base_model(llama, config, add_adapters(config, {}))
    plan = replace(PLAN, steps=30, noise_multiplier=0.05, clip_norm=1.0, learning_rate=5.0, sampling_rate=1.0)
    training = PrivateTraining(
        model, plan, window_losses=window_losses, keystream=Keystream(bytes(32)), mode="per-unit"
    )
    losses: list[float] = []
    training.run(
        [windows(1)] * 8, on_step=lambda record: losses.append(float(np.mean(record.clipped.losses)))
    )
    assert losses[-1] < losses[0] - 0.05


def test_the_charter_names_the_base_and_its_layers_and_everyone_derives_one_start(llama: Path) -> None:
    config = describe(llama, rank=2)
    terms = HuggingFaceTerms.of(config)
    assert HuggingFaceTerms.model_validate_json(terms.model_dump_json()).config() == config
    first, second = founding_parameters(terms), founding_parameters(terms)
    assert np.array_equal(flatten(config, first), flatten(config, second))
    assert all(not value.any() for name, value in first.items() if name.endswith(".up"))
    quantiser = quantiser_for(config, PLAN, members=5)
    assert sum(group.length for group in quantiser.groups) == flatten(config, first).size


def test_peft_reads_the_adapter_that_a_release_becomes(llama: Path, tmp_path: Path) -> None:
    config = describe(llama, rank=2)
    generator = np.random.default_rng(0)
    adapters = {n: (generator.standard_normal(s) * 0.1).astype(np.float32) for n, s in shapes(config).items()}
    write_adapter(tmp_path / "adapter", config, adapters)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_mode & 0o777 == 0o600
    plain = transformers.AutoModelForCausalLM.from_pretrained(llama)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    ours = load_base_model(llama, config, adapters).eval()
    with torch.no_grad():
        assert torch.allclose(ours(windows(2)), theirs(input_ids=windows(2).long()).logits, atol=1e-5)


# What a folder may not do


def test_a_base_that_brings_code_is_refused_and_the_code_never_runs(llama: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (llama / "modeling_evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    raw = json.loads((llama / "config.json").read_text())
    raw["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil", "AutoConfig": "modeling_evil.EvilConfig"}
    (llama / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigurationError, match="its own code"):
        describe(llama, rank=2)
    assert not ran.exists()


def test_weights_that_are_pickled_are_refused(llama: Path) -> None:
    (llama / "model.safetensors").unlink()
    torch.save({}, llama / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match="safetensors"):
        describe(llama, rank=2)


def test_an_adapter_in_the_folder_is_not_taken_for_a_base(llama: Path) -> None:
    (llama / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="holds an adapter"):
        describe(llama, rank=2)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_base_with_one_other_byte_is_not_the_charters_base(llama: Path, name: str) -> None:
    config = describe(llama, rank=2)
    data = bytearray((llama / name).read_bytes())
    data[-2] ^= 1
    (llama / name).write_bytes(data)
    with pytest.raises(ConfigurationError):
        load_base_model(llama, config, add_adapters(config, {}))


def test_adapters_of_another_base_are_refused(llama: Path) -> None:
    config = describe(llama, rank=2)
    with pytest.raises(ConfigurationError, match="does not hold the parameters"):
        load_base_model(llama, config, {"model.extra.up": np.zeros((1, 1), np.float32)})


@pytest.mark.parametrize(
    "wrong",
    [
        {"adapter_rank": 0},
        {"end": 300},
        {"targets": ()},
        {"targets": (("b", 1, 1), ("a", 1, 1))},
        {"vocabulary": 0},
    ],
)
def test_an_impossible_configuration_is_refused(llama: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        HuggingFaceConfig(**{**asdict(describe(llama, rank=2)), "targets": (("a", 1, 1),), **wrong})


def test_transformers_is_offline(llama: Path, no_network: None) -> None:
    describe(llama, rank=2)
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"


def test_source_that_spells_a_special_token_is_plain_text(llama: Path) -> None:
    assert END not in HuggingFaceTokenizer.load(llama).encode("x = '<|endoftext|>'")


def test_a_member_without_the_base_is_told_by_the_child(llama: Path, tmp_path: Path) -> None:
    config = describe(llama, rank=2)
    save_file(add_adapters(config, {}), tmp_path / "weights.safetensors")
    write_units(tmp_path / "units.npz", [[np.arange(2, 18).astype(np.uint16)]])
    job = TrainingJob(
        folder=tmp_path / "job",
        config=config,
        weights=tmp_path / "weights.safetensors",
        units=tmp_path / "units.npz",
        plan=PLAN,
        base=tmp_path / "nothing-here",
    )
    with (
        TrainingWorker() as worker,
        pytest.raises((ConfigurationError, TrainingError), match="no base in"),
    ):
        worker.train(job)
    assert load_file(tmp_path / "weights.safetensors")
