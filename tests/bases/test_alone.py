"""A person with a base and no federation: `sordino train`, `complete` and `serve --base`, each against transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.bases.test_door import spoil
from tests.completion import foreign_bases
from tests.completion.foreign_bases import FIVE
from tests.completion.test_bases_served import assert_same_text
from tests.completion.test_serve import Serving
from typer.testing import CliRunner

from sordino_client.completion import bundle, solo
from sordino_client.completion.bases import served
from sordino_client.completion.bases.served import Served
from sordino_client.completion.complete_command import complete
from sordino_client.completion.user_service import definition
from sordino_client.training.commands import train
from sordino_client.training.on_base import Means
from sordino_client.training.standalone import Standalone
from sordino_client.training.stream import SourceDocument, encode_shard, open_shard
from sordino_client.training.subjects import AdaptedBase, AdaptedSettings
from sordino_platform import bases
from sordino_platform.bases import memory
from sordino_platform.huggingface_model import describe, load_base_model
from sordino_platform.machine import memory as machine_memory
from sordino_platform.machine.service.systemd import Systemd
from sordino_platform.release import write_base_bundle
from sordino_platform.terms.chosen import model_of
from sordino_privacy.errors import ConfigurationError, StorageError, UsageError

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


class Judge:
    """A base with adapters in transformers, float32."""

    def __init__(self, folder: Path, factors: Any) -> None:
        rank = next(iter(value.shape[0] for name, value in factors.items() if name.endswith(".down")))
        self._model = load_base_model(folder, describe(folder, rank=rank), factors).eval()

    def __call__(self, tokens: torch.Tensor) -> Any:
        return transformers.modeling_outputs.CausalLMOutput(logits=self._model(tokens))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return foreign_bases.write_each(tmp_path_factory.mktemp("bases"), FIVE)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for folder in range(6):
        (root / f"part{folder}").mkdir()
        for file in range(3):
            lines = [f"def add_{folder}_{n}(left, right):\n    return left + right\n" for n in range(12)]
            (root / f"part{folder}" / f"module{file}.py").write_text("\n".join(lines))
    return root


def command(function: Any, *arguments: str) -> Any:
    import typer

    app = typer.Typer()
    app.command()(function)
    return CliRunner().invoke(app, list(arguments))


# Training


@pytest.mark.parametrize("name", FIVE)
def test_a_run_on_a_base_learns_and_what_it_made_is_served_as_transformers_reads_it(
    name: str, made: dict[str, Path], repository: Path, tmp_path: Path
) -> None:
    settings = AdaptedSettings.of(str(made[name]), rank=2, tokens=128 * 8 * 6)
    session = Standalone(tmp_path, [repository], settings, threads=1)
    session.run(lambda report: None)
    assert session.finished
    assert session.heldout[-1] < session.heldout[0]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 2
    found, said = solo.chosen(tmp_path)
    assert isinstance(found, Served)
    assert (found.release, str(tmp_path) in said) == (6, True)
    current = bundle.current(tmp_path / "serving")
    assert current is not None
    generator = served.load(current, precision="float32")
    assert generator.name == f"{made[name].name}-6"
    assert_same_text(generator, Judge(made[name], served.factors(found)))


def test_an_interrupted_run_ends_as_the_uninterrupted_one_within_whatever_memory(
    made: dict[str, Path], repository: Path, tmp_path: Path
) -> None:
    settings = AdaptedSettings.of(str(made["llama"]), rank=2, tokens=128 * 8 * 2)
    whole = Standalone(tmp_path / "whole", [repository], settings, threads=1)
    whole.run(lambda report: None)
    parted = Standalone(tmp_path / "parted", [repository], settings, threads=1)
    parted.run(lambda report: parted.stop(), checkpoint_seconds=0)
    assert parted.progress.steps == 1
    again = Standalone(tmp_path / "parted", [], settings, threads=1)
    assert isinstance(again.subject, AdaptedBase)
    again.subject.at_once = 3  # as on a smaller machine
    again.run(lambda report: None)
    assert again.finished
    first, second = (dict(one.subject.named_parameters()) for one in (whole, again))
    for factor, value in first.items():
        torch.testing.assert_close(second[factor], value, rtol=1e-3, atol=1e-5)
    with pytest.raises(ConfigurationError, match="other settings"):
        Standalone(tmp_path / "parted", [], AdaptedSettings.of(settings.base, rank=3, tokens=settings.tokens))


def test_a_base_that_changed_since_the_run_began_is_refused(repository: Path, tmp_path: Path) -> None:
    folder = foreign_bases.write(tmp_path / "base", "llama")
    settings = AdaptedSettings.of(str(folder), rank=2, tokens=128)
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    with pytest.raises((ConfigurationError, StorageError), match=r"not the base any more|another tokenizer"):
        Standalone(tmp_path / "run", [repository], settings)


def test_a_large_vocabulary_keeps_its_numbers(tmp_path: Path) -> None:
    class Wide:
        digest, size = b"wide", 151_936

        def encode_many(self, texts: Any) -> list[list[int]]:
            return [[70_000, 5] for _ in texts]

    document = SourceDocument(project="own", path="a.py", language="code", text="x")
    encode_shard([document], Wide(), tmp_path, end=151_643)
    shard = open_shard(tmp_path, Wide(), end=151_643)
    assert shard is not None
    assert shard.document(0).tolist() == [70_000, 5, 151_643]


def test_a_base_too_large_for_the_memory_is_refused_with_both_figures_and_nothing_is_loaded(
    made: dict[str, Path], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = AdaptedSettings.of(str(made["llama"]), rank=2, tokens=128)
    monkeypatch.setattr(
        "sordino_platform.huggingface_model.load_base_model", lambda *_, **__: pytest.fail("loaded")
    )
    monkeypatch.setattr("sordino_client.training.device.TRAINER_BYTES", 2 << 30)
    said = r"takes about 2\.1 GB for one unit of 128 tokens; the trainer may use 1\.1 GB"
    with pytest.raises(ConfigurationError, match=said) as caught:
        Standalone(tmp_path / "run", [repository], settings, means=Means(memory=1 << 30))
    assert "\n" not in caught.value.message


def test_the_train_command_takes_a_base_and_says_what_does_not_go_with_it(
    made: dict[str, Path], repository: Path, tmp_path: Path
) -> None:
    # A process of its own: the command bounds its own memory.
    done = subprocess.run(
        [sys.executable, "-m", "sordino_platform.cli", "train", "--repo", str(repository), "--base", str(made["qwen2"]),
         "--tokens", "1024", "--rank", "2", "--run", str(tmp_path / "run"), "--threads", "1", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["base"], report["size"], report["finished"]) == (str(made["qwen2"]), None, True)
    assert report["heldout_loss_after"] < report["heldout_loss_before"]
    for wrong, said in (
        (("--base", "x", "--size", "22m"), "--size does not go with --base"),
        (("--base", "x", "--start", "base"), "--start does not go with --base"),
        (("--rank", "8"), "--rank needs --base"),
        (("--base", "shipped"), "the base that ships is trained whole"),
    ):
        result = command(train, *wrong)
        assert isinstance(result.exception, UsageError)
        assert said in result.exception.message
    nowhere = command(train, "--base", "nowhere")
    assert isinstance(nowhere.exception, ConfigurationError)
    assert "no base called 'nowhere'" in nowhere.exception.message


# Completing and serving


@pytest.fixture
def place(tmp_path: Path) -> str:
    (tmp_path / "a.py").write_text("def add(left, right):\n    return left + right\n" * 3 + "def add(left, ")
    return f"{tmp_path / 'a.py'}:7:15"


def test_complete_takes_a_base_by_its_folder_or_its_name_and_asks_no_endpoint(
    made: dict[str, Path], place: str, tmp_path: Path
) -> None:
    state = ("--state", str(tmp_path / "nothing"), "--json")
    for named in ("gpt2", "ours"):
        found = json.loads(
            command(complete, place, "--base", str(made["gpt2"]) if named == "gpt2" else named, *state).stdout
        )
        assert (found["source"], found["model"]) == ("base", named)
        assert found["prompt_tokens"] > 20
        bases.add(str(made["gpt2"]), name="ours")
    shipped = json.loads(command(complete, place, "--base", "shipped", *state).stdout)
    assert shipped["model"] == "sordino-base"
    nowhere = command(complete, place, "--base", "nowhere", *state)
    assert isinstance(nowhere.exception, ConfigurationError)


def test_complete_loads_a_release_on_a_base_where_no_endpoint_runs(
    made: dict[str, Path], place: str, tmp_path: Path
) -> None:
    config = describe(made["llama"], rank=1)
    factors = {f"{module}.down": np.zeros((1, inputs), np.float32) for module, _, inputs in config.targets}
    factors |= {f"{module}.up": np.zeros((outputs, 1), np.float32) for module, outputs, _ in config.targets}
    write_base_bundle(tmp_path / "state" / "serving", bases.find_base(str(made["llama"])), factors, release=4)
    found = json.loads(command(complete, place, "--state", str(tmp_path / "state"), "--json").stdout)
    assert (found["source"], found["model"]) == ("release", "llama-4")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[list[Serving]]:
    started: list[Serving] = []
    yield started
    for one in started:
        one.end()


def test_serve_answers_from_a_base_and_from_a_run_on_it(
    made: dict[str, Path], repository: Path, tmp_path: Path, serving: list[Serving]
) -> None:
    base = str(made["llama"])
    running = Serving(tmp_path / "home", "--base", base, "--show", "all")
    serving.append(running)
    assert "the base llama, llama, apache-2.0" in running.until("model")
    running.until("engine", "llama answers, in ")
    above = "".join(f"def add_{n}(left, right):\n    return left + right\n" for n in range(4))
    asked = {"prompt": above + "def add_4(left, right):\n    return left + "}
    answer = running.endpoint().ask("POST", "/v1/completions", asked)
    # A random model has nothing to say: the open file's part of the memory, in the base's own tokens, does.
    assert (answer["model"], answer["choices"][0]["text"]) == ("llama", "right")
    assert running.end() == 0
    settings = AdaptedSettings.of(base, rank=2, tokens=128 * 8)
    Standalone(tmp_path / "run", [repository], settings, threads=1).run(lambda report: None)
    again = Serving(tmp_path / "home", "--model", str(tmp_path / "run"))
    serving.append(again)
    again.until("engine", "llama-1 answers, in ")
    assert again.end() == 0
    refused = Serving(tmp_path / "home", "--model", str(tmp_path / "run"), "--base", base)
    serving.append(refused)
    assert refused.process.wait(60) == UsageError.exit_code


def test_a_base_too_large_to_serve_is_refused_with_both_figures_and_what_was_served_stays(
    made: dict[str, Path], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_memory, "total", lambda: 100 << 20)
    named = str(made["llama"])
    for refused in (
        lambda: solo.serve(tmp_path / "home", [], model=None, base=named, port=0, tell=lambda state: None),
        lambda: definition(tmp_path, [], model=None, base=named, port=0),
    ):
        with pytest.raises(ConfigurationError, match="of memory; this machine has 105 MB"):
            refused()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "how", ["pickle", "python", "missing shard", "smaller tokenizer", "half a file", "no licence"]
)
def test_every_command_refuses_a_bad_base_in_one_line_and_makes_nothing(
    how: str, place: str, repository: Path, tmp_path: Path, make_base: Any
) -> None:
    named = make_base(tmp_path / "bad")
    said = spoil(named, how)
    for refused in (
        lambda: solo.serve(
            tmp_path / "home", [], model=None, base=str(named), port=0, tell=lambda state: None
        ),
        lambda: AdaptedSettings.of(str(named), rank=2, tokens=128),
        lambda: model_of(str(named), {}),
    ):
        with pytest.raises(ConfigurationError) as caught:
            refused()
        assert said in caught.value.message
        assert "\n" not in caught.value.message
    completed = command(complete, place, "--base", str(named), "--state", str(tmp_path / "state"))
    assert isinstance(completed.exception, ConfigurationError)
    assert said in completed.exception.message
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "state").exists()


def test_the_service_names_the_base_from_the_root_on_and_gives_it_room(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unit(base: str | None) -> str:
        return Systemd().definition(definition(tmp_path, [], model=None, base=base, port=0)).decode()

    bases.add(str(made["llama"]), name="ours")
    assert '"--base" "ours"' in unit("ours")
    monkeypatch.chdir(made["llama"].parent)
    assert f'"--base" "{made["llama"]}"' in unit("llama")
    monkeypatch.setattr(memory.MemoryShape, "serving_bytes", lambda self, *, context: 1 << 30)
    assert f"MemoryMax={3 << 30}\n" in unit("ours")
    assert f"MemoryMax={2 << 30}\n" in unit(None)
