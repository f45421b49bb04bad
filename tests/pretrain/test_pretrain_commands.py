"""The commands of the public base, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sordino_client.laboratory.pretrain.sources import ROLES
from sordino_platform.cli import run


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "billing"
    folder.mkdir()
    for number in range(3):
        body = "".join(f"    int field{number}x{n} = read{n % 5}();\n" for n in range(60))
        (folder / f"Ledger{number}.java").write_text(f"class Ledger{number} {{\n{body}}}\n")
    return folder


def test_eval_of_a_folder_prints_its_figures_as_json(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "eval",
        "--repo",
        str(repository),
        "--cache",
        str(tmp_path / "none"),
        "--tokens",
        "600",
        "--json",
    ]
    assert run([*arguments, "--lines", "2", "--show", "1"]) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert {"bits_per_byte", "next_token_accuracy", "line_exact_match", "per_project", "baselines"} <= set(
        report
    )
    assert list(report["per_project"]) == [str(repository)]
    assert set(report["layers"]) == {"model", "memory", "both"}
    assert report["layers"]["model"]["bits_per_byte"] == report["bits_per_byte"]
    assert shown.err.count("truth  ") == 1


def test_eval_of_a_folder_without_source_code_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["eval", "--repo", str(tmp_path / "empty"), "--cache", str(tmp_path)]) == 4
    assert "what to do:" in capsys.readouterr().err


def test_eval_without_the_heldout_corpus_says_how_to_fetch_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", "--cache", str(tmp_path)]) == 4
    assert "what to do: run: sordino corpus fetch heldout" in capsys.readouterr().err


def test_fetching_a_later_role_first_names_the_one_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["corpus", "fetch", "public", "--cache", str(tmp_path), "--offline"]) == 4
    assert "run: sordino corpus fetch heldout" in capsys.readouterr().err


def test_an_unknown_corpus_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["corpus", "fetch", "everything", "--cache", str(tmp_path)]) == 2
    assert f"choose one of: {', '.join(ROLES)}" in capsys.readouterr().err


def test_pretraining_without_a_corpus_says_how_to_fetch_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pretrain", "--run", str(tmp_path / "run"), "--cache", str(tmp_path)]) == 4
    assert "run: sordino corpus fetch public" in capsys.readouterr().err


def test_a_mixture_that_is_none_and_a_role_that_does_not_exist_are_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mixture in ("0.5", "0.5,0.5,0.5,x", "0,0,0,0", "0.5,0.5,-0.1,0", "2,0,0,0"):
        command = ["pretrain", "--run", str(tmp_path / "run"), "--cache", str(tmp_path)]
        assert run([*command, f"--mixture={mixture}"]) == 2
        assert "four shares between 0 and 1" in capsys.readouterr().err
    assert run(["eval", "--role", "everything", "--cache", str(tmp_path)]) == 2
    assert "no corpus named 'everything'" in capsys.readouterr().err
