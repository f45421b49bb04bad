"""`sordino complete`: asks the endpoint, or loads a model; and says in one line what is wrong with a place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sordino_client.completion.complete_command import complete, text_around
from sordino_client.laboratory import completion_benchmark as bench
from sordino_privacy.errors import DataError, SordinoError, UsageError

TEXT = "def area(width, height):\n    return \n"


@pytest.fixture
def place(tmp_path: Path) -> str:
    path = tmp_path / "a:b.py"
    path.write_text(TEXT)
    return f"{path}:2:12"


def run(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(complete)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_the_running_endpoint_is_asked(
    tmp_path: Path, place: str, start: Callable[..., Any], release: Callable[..., Path]
) -> None:
    state = tmp_path / "state"
    release(state / "serving")
    running = start(state)
    found = json.loads(run(place, "--state", str(state), "--json").stdout)
    answer = running.endpoint.ask(
        "POST", "/v1/completions", {"prompt": TEXT[:-1], "suffix": "\n", "max_tokens": 48}
    )
    assert found["source"] == "endpoint"
    assert found["completions"] == [choice["text"] for choice in answer["choices"]]


def test_without_an_endpoint_the_newest_release_is_loaded(
    tmp_path: Path, place: str, release: Callable[..., Path]
) -> None:
    release(tmp_path / "state" / "serving", 4)
    found = json.loads(run(place, "--state", str(tmp_path / "state"), "--json", "-n", "2").stdout)
    assert (found["source"], found["model"]) == ("release", "sordino-4")
    assert found["completion_tokens"] >= 1


def test_without_a_release_the_base_that_ships_answers(tmp_path: Path, place: str) -> None:
    found = json.loads(run(place, "--state", str(tmp_path / "nothing"), "--json").stdout)
    assert (found["source"], found["model"]) == ("base", "sordino-base")


@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        ("a.py", UsageError, "not a place"),
        ("a.py:1", UsageError, "not a place"),
        (":1:1", UsageError, "not a place"),
        ("a.py:x:1", UsageError, "not a place"),
        ("absent.py:1:1", DataError, "is not a file"),
        (".:1:1", DataError, "is not a file"),
        ("a.py:0:1", UsageError, "no line 0"),
        ("a.py:4:1", UsageError, "no line 4"),
        ("a.py:1:26", UsageError, "no column 26"),
        ("binary.py:1:1", DataError, "not text"),
        ("large.py:1:1", DataError, "larger than 1 MiB"),
    ],
)
def test_a_wrong_place_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: type[SordinoError], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text(TEXT)
    Path("binary.py").write_bytes(b"\xff\xfe")
    Path("large.py").write_bytes(b" " * (1 << 20) + b" ")
    with pytest.raises(kind, match=message) as caught:
        text_around(place)
    assert caught.value.hint


@given(text=st.text(alphabet="ab\n é", max_size=60), at=st.integers(0, 60))
def test_the_text_around_a_place_is_all_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, text: str, at: int
) -> None:
    at = min(at, len(text))
    path = tmp_path_factory.getbasetemp() / "around.py"
    path.write_text(text)
    line, column = text[:at].count("\n") + 1, at - (text[:at].rfind("\n") + 1) + 1
    assert text_around(f"{path}:{line}:{column}") == (text[:at], text[at:])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_benchmark_has_every_figure() -> None:
    app = typer.Typer()
    app.command()(bench.completion)
    result = CliRunner().invoke(app, ["--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    expected = {
        "line10_p50_ms_22m",
        "line10_p95_ms_22m",
        "cold512_ms_22m",
        "speedup_vs_torch_eager_22m",
        "ratio_vs_llamacpp_22m",
        "memory_query_us_per_token",
        "memory_bytes_per_token",
        "memory_build_tokens_per_s",
        "serving_rss_mb",
        "idle_cpu_percent",
    }
    assert expected <= set(found)
    assert found["memory_bytes_per_token"] <= 16
    assert found["serving_rss_mb"] <= 300
