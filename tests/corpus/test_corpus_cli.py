"""`sordino client corpus`, as a person sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import typer
from tests.loaded import loaded_by
from typer.testing import CliRunner

from sordino_client.corpus.commands import corpus
from sordino_privacy.errors import DataError, UsageError

Plant = Callable[[Mapping[str, str | bytes]], Path]
Source = Callable[[str], str]
TOKEN = "ghp_" + "q7Zt2Lm9Xw4Rb6Kp1Vn8Yc3Hd5Gf0JsTq7Zt"

app = typer.Typer()
app.command()(corpus)


@pytest.fixture
def repository(plant: Plant, source: Source) -> Path:
    return plant(
        {
            "a.py": source("a"),
            "b/a.py": source("a") + "# again\n",
            "c.java": source("c"),
            "key.py": f"KEY = '{TOKEN}'\n" * 5,
            "d.py": source("d") + f"KEY = '{TOKEN}'\n",
            "x.bin": b"\0" * 100,
        }
    )


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_json_holds_every_figure_and_no_secret(repository: Path) -> None:
    output = run("--repo", str(repository), "--json")
    report = json.loads(output)
    assert report["files"] == 4
    assert report["units"] == 3
    assert report["languages"].keys() == {"Python", "Java"}
    assert report["excluded"] == {"secret": 1, "language": 1}
    assert report["secret_rules"] == {"github-token": {"left_out": 1, "masked": 1}}
    assert report["bytes"] > 0
    assert report["lines"] > 0
    assert len(report["fingerprint"]) == 64
    assert TOKEN not in output


def test_the_table_says_what_was_taken_and_what_was_not(repository: Path) -> None:
    output = run("--repo", str(repository))
    for word in ("Taken", "Python", "Java", "Left out", "secret", "language", "3 units", "github-token"):
        assert word in output
    assert TOKEN not in output
    assert "run_a" not in output


def test_one_language_can_be_asked_for(repository: Path) -> None:
    assert json.loads(run("--repo", str(repository), "--language", "Java", "--json"))["files"] == 1


def test_an_unknown_language_is_refused(repository: Path) -> None:
    with pytest.raises(UsageError, match="unknown language: Klingon"):
        run("--repo", str(repository), "--language", "Klingon")


def test_an_empty_repository_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no source files found") as caught:
        run("--repo", str(tmp_path))
    assert "sordino client corpus" in caught.value.hint


def test_help_carries_an_example() -> None:
    assert "sordino client corpus --repo" in run("--help")


def test_mounting_the_command_does_not_load_what_only_running_it_needs() -> None:
    assert not loaded_by("sordino_client.corpus.commands") & {"numpy", "rensa"}


def test_every_public_name_of_the_package_is_there() -> None:
    from sordino_client import corpus as package

    assert all(getattr(package, name).__name__ == name for name in package.__all__)
