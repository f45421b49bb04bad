"""A run that was stopped and resumed is the run that was not stopped; what ships is a branch of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sordino_client.laboratory.pretrain import trainer
from sordino_client.laboratory.pretrain.compute import Compute
from sordino_client.laboratory.pretrain.export import export
from sordino_client.laboratory.pretrain.model_card import render
from sordino_client.laboratory.pretrain.packed import pack_shards
from sordino_client.laboratory.pretrain.plan import PLANS, PretrainingSettings, SessionPace
from sordino_client.laboratory.pretrain.trainer import PretrainingRun, decay_from
from sordino_client.laboratory.pretrain.vocabulary import data_folder, learn_once
from sordino_client.training import checkpoint, curve
from sordino_client.training.stream import (
    Position,
    Shard,
    SourceDocument,
    WindowStream,
    encode_shard,
    open_shard,
)
from sordino_platform import base
from sordino_platform.architecture import SIZES, ModelConfig, add_adapters, shapes, with_adapters
from sordino_platform.base.rows import compact_rows, expand
from sordino_platform.model import loss
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import ConfigurationError, DataError, StorageError

PLAIN = Compute(compiled=False, half=False)
TOKENS_A_STEP = 2 * 32
SETTINGS = PretrainingSettings(size="tiny", stages=((0, 32, 2),), warmup_steps=2)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(context=32, layers=1, heads=2, width=16, hidden=32)
    monkeypatch.setitem(SIZES, "tiny", config)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    texts = ["class Account {\n" + f"    int field{n} = {n};\n" * 40 + "}\n" for n in range(12)]
    documents = [
        SourceDocument(project="p", path=f"{n}.java", language="java", text=t) for n, t in enumerate(texts)
    ]
    for name in ("training", "validation"):
        encode_shard(documents, Tokenizer.shipped(), folder / name)
    return folder


def opened(data: Path) -> Shard:
    shard = open_shard(data / "training", Tokenizer.shipped())
    assert shard is not None
    return shard


def run(folder: Path, data: Path, steps: int, settings: PretrainingSettings = SETTINGS) -> PretrainingRun:
    pace = SessionPace(threads=1, stop_tokens=steps * TOKENS_A_STEP, log_steps=2, compute=PLAIN)
    made = PretrainingRun(folder, opened(data), opened(data), settings, pace)
    made.train()
    return made


def cache(folder: Path, data: Path, *projects: dict[str, object]) -> Path:
    """A corpus cache with encoded documents and their manifest."""
    (folder / "training").symlink_to(data / "training")
    manifest = {"sha256": "00", "overlap_left": 0.0, "projects": list(projects)}
    (folder / "public.json").write_text(json.dumps(manifest))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    name = (folder / "CURRENT").read_text().strip()
    return load_file(folder / name / "model.safetensors")


def test_stopping_and_resuming_changes_nothing(tmp_path: Path, data: Path) -> None:
    run(tmp_path / "whole", data, 8)
    run(tmp_path / "parts", data, 3)
    resumed = run(tmp_path / "parts", data, 8)
    assert resumed.progress.steps == 8
    expected = weights(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "parts").items():
        assert torch.equal(tensor, expected[name])


def test_steps_after_the_last_checkpoint_are_logged_once(tmp_path: Path, data: Path) -> None:
    run(tmp_path, data, 4)
    curve.append(tmp_path / "log.jsonl", {"steps": 6, "tokens": 1, "loss": 1.0})
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"steps": 8, "tok')
    run(tmp_path, data, 8)
    assert [entry["steps"] for entry in curve.read(tmp_path / "log.jsonl")] == [2, 4, 6, 8]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_stop_request_ends_after_the_step_with_a_checkpoint(tmp_path: Path, data: Path) -> None:
    made = PretrainingRun(
        tmp_path, opened(data), opened(data), SETTINGS, SessionPace(threads=1, compute=PLAIN)
    )

    def stop_at_third(step: int, tokens: int) -> float:
        if step == 2:
            made.stop()
        return 1.0

    made.train(stop_at_third)
    assert (tmp_path / "CURRENT").read_text().strip() == "checkpoint-00000003"
    assert made.progress.cpu_seconds > 0


def test_stopping_and_resuming_across_a_change_of_context_changes_nothing(tmp_path: Path, data: Path) -> None:
    """The third step ends the stage of short windows, just where the run is stopped."""
    staged = PretrainingSettings(size="tiny", stages=((0, 16, 4), (3 * TOKENS_A_STEP, 32, 2)), warmup_steps=2)
    whole = run(tmp_path / "whole", data, 6, staged)
    for steps in (2, 3, 6):
        parts = run(tmp_path / "parts", data, steps, staged)
    assert parts.stream.context == 32
    assert parts.stream.position == whole.stream.position
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "parts").items())


def test_a_run_goes_on_from_an_exported_base(tmp_path: Path, data: Path) -> None:
    first = run(tmp_path / "run", data, 2)
    export(tmp_path / "run", cache(tmp_path, data), tmp_path / "base")
    checkpoint.start_from_base(tmp_path / "next", tmp_path / "base")
    for name, tensor in weights(tmp_path / "next").items():
        torch.testing.assert_close(tensor, dict(first.model.named_parameters())[name], atol=1e-3, rtol=0)
    resumed = run(tmp_path / "next", data, 4)
    assert resumed.progress.tokens == 4 * TOKENS_A_STEP
    assert [e["tokens"] for e in curve.read(tmp_path / "next" / "log.jsonl")] == [128, 256]
    card = export(tmp_path / "next", tmp_path, tmp_path / "onward")
    first_sha = base.card(tmp_path / "base")["sha256"]
    assert (card["before"]["sha256"], card["before"]["tokens_seen"]) == (first_sha, 2 * TOKENS_A_STEP)
    assert f"went on from the base `{first_sha[:16]}`" in (tmp_path / "onward" / "model-card.md").read_text()


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path, data: Path) -> None:
    for steps in (1, 2, 3, 4):
        run(tmp_path, data, steps)
    assert len(list(tmp_path.glob("checkpoint-*"))) == checkpoint.KEEP


def test_other_settings_on_resume_are_refused(tmp_path: Path, data: Path) -> None:
    run(tmp_path, data, 1)
    with pytest.raises(StorageError, match="other settings"):
        run(tmp_path, data, 2, PretrainingSettings(size="tiny", stages=((0, 32, 2),), seed=7))


@pytest.mark.parametrize("damage", ["model.safetensors", "optimiser.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path, data: Path, damage: str) -> None:
    run(tmp_path, data, 1)
    name = (tmp_path / "CURRENT").read_text().strip()
    (tmp_path / name / damage).write_bytes(b"{")
    with pytest.raises(StorageError, match="cannot be resumed"):
        run(tmp_path, data, 2)


def test_a_branch_decays_a_copy_and_leaves_the_stable_run_alone(tmp_path: Path, data: Path) -> None:
    stable, branch = tmp_path / "run", tmp_path / "branch"
    run(stable, data, 3)
    before = weights(stable)
    settings = SETTINGS
    for _ in range(2):  # the second call finds the branch finished
        made, schedule = trainer.branch(
            stable,
            branch,
            5 * TOKENS_A_STEP,
            opened(data),
            opened(data),
            settings,
            SessionPace(compute=PLAIN),
        )
        made.train(schedule)
        assert made.progress.steps == 8
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(stable).items())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(branch).items())


def test_the_schedule_rises_stays_and_falls_to_zero_at_its_goal_or_in_a_branch() -> None:
    stay, fall = PretrainingSettings(warmup_steps=4).factor, decay_from(100, 50, rate=0.5)
    assert [stay(step, 0) for step in (0, 3, 4, 10**9)] == [0.25, 1, 1, 1]
    assert [fall(0, tokens) for tokens in (100, 125, 150, 200)] == [0.5, 0.25, 0, 0]
    ends = PretrainingSettings(warmup_steps=4, rate=0.5, goal_tokens=1000, decay_tokens=400).factor
    assert [ends(9, tokens) for tokens in (0, 600, 800, 1000, 1100)] == [0.5, 0.5, 0.25, 0, 0]


def test_a_run_ends_at_its_goal_and_going_on_changes_nothing(tmp_path: Path, data: Path) -> None:
    settings = replace(SETTINGS, goal_tokens=5 * TOKENS_A_STEP, decay_tokens=3 * TOKENS_A_STEP)
    assert run(tmp_path, data, 100, settings).progress.steps == 5
    before = weights(tmp_path)
    assert run(tmp_path, data, 100, settings).progress.steps == 5
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path).items())


def test_a_run_stops_when_its_time_is_up_and_the_rest_of_it_is_the_uninterrupted_run(
    tmp_path: Path, data: Path
) -> None:
    pace = SessionPace(threads=1, stop_tokens=4 * TOKENS_A_STEP, stop_seconds=0.0, compute=PLAIN)
    stopped = PretrainingRun(tmp_path / "parts", opened(data), opened(data), SETTINGS, pace)
    stopped.train()
    assert stopped.progress.steps == 0
    run(tmp_path / "whole", data, 4)
    run(tmp_path / "parts", data, 4)
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "parts").items())


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_step_taken_in_passes_is_the_same_step_and_resumes_to_the_same_bits(
    tmp_path: Path, data: Path, rows: int
) -> None:
    settings = replace(SETTINGS, stages=((0, 32, 4),))
    made = {}
    for name, stops in (("whole", (12,)), ("parts", (4, 12))):
        for steps in stops:
            pace = SessionPace(threads=1, stop_tokens=steps * TOKENS_A_STEP, pass_windows=rows, compute=PLAIN)
            PretrainingRun(tmp_path / name, opened(data), opened(data), settings, pace).train()
        made[name] = weights(tmp_path / name)
    plain = run(tmp_path / "plain", data, 12, settings)
    assert plain.progress.steps == 6
    for name, tensor in plain.model.named_parameters():
        assert torch.equal(made["whole"][name], made["parts"][name])
        # Muon makes much of a small difference where a gradient is next to nothing.
        torch.testing.assert_close(made["whole"][name], tensor.detach(), atol=2e-3, rtol=2e-2)


def test_one_command_unpacks_trains_to_its_goal_and_resumes_to_the_same_bits(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a borrowed accelerator is given: the packed shards and the trainer's own command, stopped and repeated."""
    monkeypatch.setitem(PLANS, "accelerator", ((0, 32, 4),))
    monkeypatch.setattr(Compute, "of_this_machine", classmethod(lambda cls, device: PLAIN))
    pack_shards(data, tmp_path / "packed")
    command = ["--unpack", str(tmp_path / "packed"), "--size", "tiny", "--device", "cpu", "--threads", "1"]
    command += [
        "--plan",
        "accelerator",
        "--goal-tokens",
        "896",
        "--decay-tokens",
        "512",
        "--pass-windows",
        "2",
    ]
    command += ["--mixture", "0.7", "0.1", "0.1", "0.1", "--rate", "0.5"]
    for name, bounds in (("whole", [[]]), ("parts", [["--minutes", "0"], ["--stop-tokens", "400"], []])):
        for bound in bounds:
            where = ["--data", str(tmp_path / name / "data"), "--run", str(tmp_path / name / "run")]
            trainer.main([*where, *command, *bound])
    state = checkpoint.current_progress(tmp_path / "parts" / "run")
    assert (state.tokens, state.steps) == (896, 7)
    expected = weights(tmp_path / "whole" / "run")
    found = weights(tmp_path / "parts" / "run")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    with pytest.raises(StorageError, match="other settings"):
        trainer.main([*where, *command, "--rate", "0.4"])


def test_a_run_with_a_vocabulary_of_its_own_travels_trains_and_is_exported_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PLANS, "accelerator", ((0, 32, 4),))
    monkeypatch.setattr(Compute, "of_this_machine", classmethod(lambda cls, device: PLAIN))
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghijklmnop"), 6)) for _ in range(80)]
    texts = ["".join(f"func {a}({b} int) {{}}\n" for a, b in draw.choice(words, (30, 2))) for _ in range(80)]
    documents = [
        SourceDocument(project="p", path=f"{n}.go", language="go", text=t) for n, t in enumerate(texts)
    ]
    there = data_folder(tmp_path, 300)
    own = learn_once(documents, there, 300)
    assert own.size == 300
    assert learn_once([], there, 300).digest == own.digest  # learnt once
    with pytest.raises(DataError, match="too little text"):
        learn_once(documents, tmp_path / "much", 60_000)
    for name in ("training", "validation"):
        encode_shard(documents, own, there / name)
    pack_shards(there, tmp_path / "packed")
    command = ["--data", str(tmp_path / "elsewhere"), "--run", str(tmp_path / "run"), "--size", "tiny"]
    command += ["--unpack", str(tmp_path / "packed"), "--plan", "accelerator", "--stop-tokens", "128"]
    trainer.main(command)
    (tmp_path / "public.json").write_text(json.dumps({"sha256": "00", "overlap_left": 0.0, "projects": []}))
    export(tmp_path / "run", tmp_path, tmp_path / "base")
    config, tokenizer, _ = base.load(tmp_path / "base")
    assert (config.vocabulary, tokenizer.digest) == (300, own.digest)
    with pytest.raises(StorageError, match="another vocabulary"):
        checkpoint.keep_tokenizer(tmp_path / "run", Tokenizer.train(texts, vocabulary=280))


def test_the_accelerators_steps_are_whole_passes_of_sixty_four_windows_of_one_length() -> None:
    assert {context for _, context, _ in PLANS["accelerator"]} == {512}
    assert all(windows % 64 == 0 for _, _, windows in PLANS["accelerator"])


@pytest.mark.parametrize("size", ["3.4m", "10m", "13m"])
def test_what_may_become_the_base_fits_into_what_ships(size: str) -> None:
    layout = shapes(SIZES[size])
    by_rows = sum(prod(s) + 2 * s[0] if len(s) == 2 else 2 * prod(s) for s in layout.values())
    assert by_rows + (64 << 10) < base.MAX_BASE_BYTES  # a header of names beside them
    assert (2 * sum(map(prod, layout.values())) < base.MAX_BASE_BYTES) == (size == "3.4m")


def test_an_exported_base_loads_and_holds_the_checkpoint(tmp_path: Path, data: Path) -> None:
    run(tmp_path / "run", data, 2)
    project = {"name": "p", "version": "1", "licence": "MIT", "files": 12, "characters": 99}
    card = export(tmp_path / "run", cache(tmp_path, data, project), tmp_path / "base")
    config, tokenizer, parameters = base.load(tmp_path / "base")
    assert config == SIZES["tiny"]
    assert tokenizer.digest == Tokenizer.shipped().digest
    assert card["tokens_seen"] == 2 * TOKENS_A_STEP
    assert card["corpus"]["projects"] == [project]
    for name, tensor in weights(tmp_path / "run").items():
        np.testing.assert_allclose(parameters[name], tensor.numpy(), atol=1e-3)
        assert parameters[name].dtype == np.float32


def test_weights_too_large_in_float16_are_exported_as_bytes_by_rows_and_load_as_what_they_were(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "run", data, 2)
    plain = export(tmp_path / "run", cache(tmp_path, data), tmp_path / "float16")
    half = (tmp_path / "float16" / "base.safetensors").stat().st_size
    monkeypatch.setattr("sordino_client.laboratory.pretrain.export.MAX_BASE_BYTES", half - 1)
    card = export(tmp_path / "run", tmp_path, tmp_path / "bytes")
    assert (plain["format"], card["format"]) == base.FORMATS
    assert "bytes by rows" in (tmp_path / "bytes" / "model-card.md").read_text()
    assert (tmp_path / "bytes" / "base.safetensors").stat().st_size < 0.6 * half
    _, _, expected = base.load(tmp_path / "float16")
    _, _, found = base.load(tmp_path / "bytes")
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        step = np.abs(value).max(axis=-1, keepdims=True) / 127 if value.ndim == 2 else 0.0
        # The other side is itself rounded to float16.
        assert (np.abs(found[name] - value) <= 0.57 * step + 6e-4 * np.abs(value) + 1e-6).all()
    monkeypatch.setattr("sordino_client.laboratory.pretrain.export.MAX_BASE_BYTES", half // 3)
    with pytest.raises(StorageError, match="over the bound"):
        export(tmp_path / "run", tmp_path, tmp_path / "none")


def test_a_base_of_a_newer_format_is_refused_by_name(tmp_path: Path, data: Path) -> None:
    run(tmp_path / "run", data, 1)
    export(tmp_path / "run", cache(tmp_path, data), tmp_path / "base")
    path = tmp_path / "base" / "card.json"
    path.write_text(path.read_text().replace("sordino-base/1", "sordino-base/9"))
    with pytest.raises(ConfigurationError, match="no base of the format 'sordino-base/9'"):
        base.load(tmp_path / "base")


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3, 0.2, 8.0])
def test_bytes_by_rows_lose_half_a_step_of_each_row_at_most(size: float) -> None:
    matrix = (np.random.default_rng(1).standard_normal((64, 48)) * size).astype(np.float32)
    found = expand(compact_rows({"a.weight": matrix}))["a.weight"]
    step = np.abs(matrix).max(axis=1, keepdims=True) / 127
    # A scale is itself rounded to float16, which at the largest of 127 steps makes up to a sixteenth of one.
    assert (np.abs(found - matrix) <= 0.57 * step + 1e-5).all()


@pytest.mark.parametrize(
    "fault", ["no scale", "scale of another length", "scale without bytes", "another type"]
)
def test_weights_of_no_known_form_are_refused(fault: str) -> None:
    tensors = compact_rows({"a.weight": np.ones((3, 4), dtype=np.float32)})
    match fault:
        case "no scale":
            del tensors["a.weight.scale"]
        case "scale of another length":
            tensors["a.weight.scale"] = tensors["a.weight.scale"][:2]
        case "scale without bytes":
            tensors["a.weight"] = tensors["a.weight"].astype(np.float16)
        case _:
            tensors = {"a.weight": np.ones((3, 4), dtype=np.float64)}
    with pytest.raises(ConfigurationError, match="base model's"):
        expand(tensors)


def test_the_page_names_every_language_that_was_measured() -> None:
    card = base.card()
    report = card["evaluation"]
    page = render(card | {"other_evaluations": {"heldout-go": report}, "recipe": {"mixture": [1]}})
    assert "| Go: commons-csv, httpcomponents-core, jetty9, jsoup |" in page
    assert "then Python and Go" in page


def test_exporting_needs_a_checkpoint_and_a_manifest(tmp_path: Path, data: Path) -> None:
    with pytest.raises(StorageError, match="no checkpoint"):
        export(tmp_path, tmp_path, tmp_path / "base")
    run(tmp_path / "run", data, 1)
    with pytest.raises(DataError, match="no manifest"):
        export(tmp_path / "run", tmp_path, tmp_path / "base")


def test_an_export_measures_where_adapters_begin(tmp_path: Path, data: Path) -> None:
    """Along the first row the gradient of public windows is longer than along any of many random directions."""
    made = run(tmp_path / "run", data, 3)
    card = export(tmp_path / "run", cache(tmp_path, data), tmp_path / "base")
    raw = (tmp_path / "base" / "directions.safetensors").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == card["directions_sha256"]
    found = load_file(tmp_path / "base" / "directions.safetensors")
    model = dict(made.model.named_parameters())
    assert {name.removesuffix("down") + "weight" for name in found} == {
        name for name, weight in model.items() if weight.ndim == 2
    }
    tokens = torch.from_numpy(WindowStream(opened(data), 32, 1, Position()).batch(64))
    value = loss(made.model(tokens[:, :-1]), tokens[:, 1:])
    for name, rows in found.items():
        (gradient,) = torch.autograd.grad(
            value, model[name.removesuffix("down") + "weight"], retain_graph=True
        )
        first = rows[0].float() / rows[0].float().norm()
        others = torch.randn(32, len(first), generator=torch.Generator().manual_seed(4))
        others = others / others.norm(dim=1, keepdim=True)
        assert (gradient @ first).norm() > (gradient @ others.T).norm(dim=0).max()
        lengths = rows.float().norm(dim=1)
        assert (lengths.diff() > -1e-2).all()  # the longer the gradient, the shorter the row


def test_the_directions_that_ship_are_those_of_the_card_and_fit_the_adapters() -> None:
    config, _, parameters = base.load()
    adapted = with_adapters(config, 4, embedding_rank=8, scale=2.0)
    directions = base.directions()
    founding = add_adapters(adapted, parameters, directions=directions)
    downs = [name for name in founding if name.endswith(".down")]
    assert set(downs) == set(directions)
    for name in downs:
        np.testing.assert_allclose(founding[name], 2.0 * directions[name][: len(founding[name])], rtol=1e-6)


def test_a_base_that_is_not_the_one_of_its_card_is_refused(tmp_path: Path, data: Path) -> None:
    run(tmp_path / "run", data, 1)
    export(tmp_path / "run", cache(tmp_path, data), tmp_path / "base")
    path = tmp_path / "base" / "base.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ConfigurationError, match="not those of its card"):
        base.load(tmp_path / "base")
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        base.load(tmp_path / "base")


def test_the_base_that_ships_fits_its_card_and_names_its_sources() -> None:
    config, tokenizer, parameters = base.load()
    card = base.card()
    assert config == SIZES[card["size"]]
    assert tokenizer.size == config.vocabulary
    assert sum(p.size for p in parameters.values()) == 3_447_424
    projects = card["corpus"]["projects"]
    assert len(projects) > 100
    assert all(project["licence"] for project in projects)
    assert card["tokens_seen"] > 0


def test_the_page_of_the_base_is_rendered_from_the_card_that_ships() -> None:
    page = Path(__file__).parents[2] / "docs" / "model-card.md"
    assert page.read_text() == render(base.card())
