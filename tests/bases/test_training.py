"""Private training on any base: one pass is right for every family, memory is bounded before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from sordino_client.training import TrainingJob, TrainingWorker, write_units
from sordino_client.training.device import device_for, precision_for, room_for
from sordino_client.training.loop import window_losses
from sordino_platform import bases
from sordino_platform.architecture import HuggingFaceConfig, add_adapters, flatten, shapes
from sordino_platform.bases.memory import MemoryShape
from sordino_platform.huggingface_model import describe, load_base_model
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.dpsgd.engine import PassBounds, PrivateTraining, gradients_for
from sordino_privacy.dpsgd.gradient_block import GradientBlock
from sordino_privacy.dpsgd.noise import standard_normal
from sordino_privacy.dpsgd.selfcheck import COARSE, SelfCheckError, self_check
from sordino_privacy.errors import ConfigurationError, UsageError
from sordino_privacy.keystream import Keystream

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
Make = Callable[..., Path]
FAMILIES = ("llama", "qwen2", "gpt2", "starcoder2", "gemma", "granite")
PLAN = TrainingPlan(
    sampling_rate=1.0,
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
SMOLLM2 = MemoryShape(
    parameters=134_515_008, vocabulary=49152, layers=30, width=576, hidden=1536, key_values=192
)


def windows(rows: int, seed: int = 0, length: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, 300, (rows, length), generator=generator, dtype=torch.int32)


def adapters_for(config: HuggingFaceConfig) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {n: (generator.standard_normal(s) * 0.1).astype(np.float32) for n, s in shapes(config).items()}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_pass_over_many_units_is_what_brute_force_finds_one_by_one(
    family: str, checkpointing: bool, make_base: Make, tmp_path: Path
) -> None:
    folder = make_base(tmp_path / "base", family)
    config = describe(folder, rank=3)
    model = load_base_model(folder, config, adapters_for(config), checkpointing=checkpointing).train()
    probes = [windows(1), windows(2, 1), windows(1, 2), windows(2, 3)]
    self_check(model, window_losses, gradients_for("one-pass", model, window_losses), probes)
    # Passes of one unit each clip alike.
    narrow = gradients_for("one-pass", model, window_losses, bounds=PassBounds(tokens=1, buffer=1))
    self_check(model, window_losses, narrow, probes)


def test_an_adapter_gradient_that_is_wrong_is_found_in_every_precision(
    make_base: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_base(tmp_path / "base", "llama")
    config = describe(folder, rank=3)
    model = load_base_model(folder, config, adapters_for(config), dtype=torch.bfloat16).train()
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    mode = gradients_for("one-pass", model, window_losses)
    self_check(model, window_losses, mode, [windows(1), windows(2)], tolerance=COARSE)
    right = GradientBlock.add_product

    def wrong(self: GradientBlock, left: torch.Tensor, other: torch.Tensor) -> None:
        right(self, left, other * (1.21 if "layers.1.mlp.up_proj" in self.name else 1.0))

    monkeypatch.setattr(GradientBlock, "add_product", wrong)
    with pytest.raises(SelfCheckError):
        self_check(model, window_losses, mode, [windows(1), windows(2)], tolerance=1e-4)


def test_the_noise_is_the_keystreams_wherever_the_model_is(make_base: Make, tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base", "llama")
    config = describe(folder, rank=2)
    start = add_adapters(config, {})
    model = load_base_model(folder, config, start)
    training = PrivateTraining(model, PLAN, window_losses=window_losses, keystream=Keystream(bytes(32)))
    before = flatten(config, start)
    training.step([])
    from sordino_platform.huggingface_model import adapters_of

    moved = (before - flatten(config, adapters_of(model))) / (PLAN.learning_rate * PLAN.noise_deviation())
    # The model's order of parameters is its own; what was drawn is the same numbers.
    drawn = standard_normal(Keystream(bytes(32)), moved.size)
    assert np.allclose(np.sort(moved), np.sort(drawn.numpy()), atol=1e-3)


@pytest.mark.parametrize("memory_gb", [2.0, 3, 6, 64])
def test_the_units_of_a_pass_follow_from_the_memory_and_stay_within_it(memory_gb: float) -> None:
    memory = int(memory_gb * (1 << 30))
    room = room_for(SMOLLM2, rank=8, unit_tokens=256, memory=memory)
    assert room.needed <= memory
    assert room.bounds.tokens % 256 == 0
    units = room.bounds.tokens // 256
    unit = 256 * SMOLLM2.token_bytes(rank=8, checkpointing=room.checkpointing)
    assert units == 8 or room.needed + unit + 4 * SMOLLM2.adapters(8) > memory
    assert room.checkpointing == (memory_gb < 2.1)


def test_a_base_that_does_not_fit_is_refused_with_the_figures_before_it_is_loaded(
    make_base: Make, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"takes about .* GB for one unit of 4096 tokens; .* may use 2\.1 GB"
    ):
        room_for(SMOLLM2, rank=8, unit_tokens=4096, memory=2 << 30)
    large = replace(SMOLLM2, parameters=7 << 30)
    with pytest.raises(ConfigurationError, match=r"takes about 3\d\.\d GB"):
        room_for(large, rank=8, unit_tokens=256, memory=6 << 30)


def test_a_device_that_is_not_there_is_a_usage_error() -> None:
    assert device_for("cpu").type == "cpu"
    assert precision_for(torch.device("cpu")) in (torch.float32, torch.bfloat16)
    with pytest.raises(UsageError, match="no device 'tpu'"):
        device_for("tpu")
    if not torch.cuda.is_available():
        assert device_for("auto").type in ("cpu", "mps")
        with pytest.raises(UsageError, match="no cuda device"):
            device_for("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_engine_agrees_with_brute_force(make_base: Make, tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base", "llama")
    config = describe(folder, rank=3)
    model = load_base_model(folder, config, adapters_for(config), device="cuda")
    training = PrivateTraining(model, PLAN, window_losses=window_losses, keystream=Keystream(bytes(32)))
    training.self_check([windows(1), windows(2)], tolerance=COARSE)
    assert math.isfinite(training.run([windows(2)] * 4).mean_loss)


def test_a_job_trains_on_a_gguf_file_in_the_child_as_on_the_folder_it_was_made_of(
    make_base: Make, make_gguf: Make, tmp_path: Path
) -> None:
    source = make_base(tmp_path / "source", "llama")
    file = make_gguf(tmp_path / "small.gguf", source, "llama")
    base = bases.add(str(file))
    config = describe(file, rank=2)
    assert config.base_sha256 == base.digest
    assert config.targets == describe(source, rank=2).targets
    save_file(add_adapters(config, {}), tmp_path / "weights.safetensors")
    generator = np.random.default_rng(0)
    write_units(
        tmp_path / "units.npz", [[generator.integers(2, 300, 16).astype(np.uint32)] for _ in range(8)]
    )
    job = TrainingJob(
        folder=tmp_path / "job",
        config=config,
        weights=tmp_path / "weights.safetensors",
        units=tmp_path / "units.npz",
        plan=PLAN,
        base=file,
    )
    with TrainingWorker(device="cpu") as worker:
        update = worker.train(job)
    assert update.local.units == 16
    assert float(np.abs(update.vector()).max()) > 0


def test_weights_that_are_missing_in_the_files_are_never_made_up(make_base: Make, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    folder = make_base(tmp_path / "base", "llama")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = describe(folder, rank=2)
    with pytest.raises(ConfigurationError, match="lacks weights of its own model"):
        load_base_model(folder, config, add_adapters(config, {}))


def test_a_base_that_has_no_rule_for_one_pass_is_trained_one_unit_at_a_time(
    make_base: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sordino_client.training.loop import Trainer
    from sordino_privacy.dpsgd import watching

    monkeypatch.delitem(watching._RULES, torch.nn.functional.linear)
    folder = make_base(tmp_path / "base", "llama")
    config = describe(folder, rank=2)
    save_file(add_adapters(config, {}), tmp_path / "weights.safetensors")
    generator = np.random.default_rng(0)
    write_units(
        tmp_path / "units.npz", [[generator.integers(2, 300, 16).astype(np.uint32)] for _ in range(8)]
    )
    trainer = Trainer()
    for number in range(2):
        job = TrainingJob(
            folder=tmp_path / f"job{number}",
            config=config,
            weights=tmp_path / "weights.safetensors",
            units=tmp_path / "units.npz",
            plan=PLAN,
            base=folder,
        )
        job.write()
        trainer.run(job, lambda record: None)
        assert (job.folder / "update.npy").exists()
    assert set(trainer._proven.values()) == {"per-unit"}
