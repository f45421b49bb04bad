"""`sordino client stats`, `memory` and `status`: what a developer is told, and that every silence has a reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from sordino_client.commands import app
from sordino_client.completion import unread
from sordino_client.completion.query import Answer, Completion
from sordino_client.completion.reasons import EXPLANATION, Reason, why
from sordino_client.completion.statistics import EndpointStatistics
from sordino_client.completion.stopping import Finish
from sordino_client.completion.text.fitting import Cut

CHROMIUM = shutil.which("chromium")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_stats_say_what_was_counted_with_a_bar_for_each_day(tmp_path: Path) -> None:
    state = tmp_path / "completion"
    state.mkdir()
    day = ["2026-11-24"]
    statistics = EndpointStatistics(state / "statistics.json", today=lambda: day[0])
    for number in range(20):
        statistics.event("shown", 0)
        statistics.event("accepted" if number % 4 == 0 else "dismissed", 12)
        statistics.latency(0.040)
        statistics.outcome("shown")
    statistics.typed(120)
    statistics.outcome("repeats_suffix")
    day[0] = "2026-11-25"
    statistics.event("shown", 0)
    statistics.save()
    text = run("stats", "--folder", str(tmp_path))
    assert "5 (24 % of those shown)" in text
    assert "33 % of the characters written" in text
    assert "2026-11-24" in text
    assert "████████" in text
    assert EXPLANATION["repeats_suffix"] in text
    assert EXPLANATION["shown"] not in text
    found = json.loads(run("stats", "--folder", str(tmp_path), "--json"))
    assert (found["shown"], found["accepted"], found["dismissed"]) == (21, 5, 15)


def test_stats_of_nothing_is_one_line(tmp_path: Path) -> None:
    assert run("stats", "--folder", str(tmp_path)) == "nothing was completed on this machine yet\n"


def test_the_memory_is_sized_by_status_and_purged_by_its_command(
    tmp_path: Path, start: Callable[..., Any], release: Callable[..., Path]
) -> None:
    repository, state = tmp_path / "repository", tmp_path / "completion"
    repository.mkdir()
    (repository / "a.py").write_text("def area(width, height):\n    return width * height\n" * 9)
    release(state / "serving")
    gone = tmp_path / "gone"
    running = start(state, "--repo", str(repository), "--repo", str(gone))
    while not running.endpoint.ask("GET", "/v1/memory")["unread"]:  # said after the files are there
        time.sleep(0.05)
    (tmp_path / "status.json").write_text(json.dumps({"member": "ada", "pid": os.getpid()}))
    found = json.loads(run("status", "--folder", str(tmp_path), "--json"))
    assert found["completion_port"] == running.endpoint.port
    assert found["memory_files"] == 1
    assert found["memory_tokens"] > 50
    assert found["memory_bytes"] == sum(path.stat().st_size for path in (state / "memory").iterdir())
    missing = f"{gone} is missing: cannot read {gone}: no such file or directory"
    assert found["memory_unread"] == [missing]
    said = run("memory", "--folder", str(tmp_path))
    assert said.startswith("1 files, ")
    assert said.endswith(f"warning: {missing}\n")
    assert json.loads(run("memory", "--folder", str(tmp_path), "--purge", "--json"))["bytes"] == 0
    assert not (state / "memory").exists()
    assert json.loads(run("status", "--folder", str(tmp_path), "--json"))["memory_bytes"] == 0


def test_a_memory_is_purged_without_an_endpoint_too(tmp_path: Path) -> None:
    folder = tmp_path / "completion" / "memory"
    folder.mkdir(parents=True)
    (folder / "memory.json").write_text("{}")
    assert json.loads(run("memory", "--folder", str(tmp_path), "--purge", "--json"))["files"] == 0
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page cannot be drawn")
def test_the_page_draws_what_was_counted(
    tmp_path: Path, start: Callable[..., Any], release: Callable[..., Path]
) -> None:
    state = tmp_path / "completion"
    release(state / "serving")
    statistics = EndpointStatistics(state / "statistics.json", today=lambda: "2026-11-24")
    for _ in range(1234):
        statistics.event("shown", 0)
    statistics.event("accepted", 10)
    statistics.latency(0.04)
    statistics.outcome("repeats_suffix")
    statistics.save()
    running = start(state)
    (state / "memory").mkdir()  # as a build notes it

    unread.write(state / "memory", [unread.Gap(repository="/work/gone", whole=True, reason="no such folder")])
    address = f"http://127.0.0.1:{running.endpoint.port}/"
    browser = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    browser += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom"]

    def drawn(url: str) -> str:
        return subprocess.run([*browser, url], capture_output=True, text=True, check=True, timeout=120).stdout

    page = drawn(f"{address}#{running.endpoint.token}")
    assert "1 234" in page
    assert page.count("<rect") == 4, "two series of one day, twice"
    assert EXPLANATION["repeats_suffix"] in page
    assert "Not remembered: /work/gone is missing (no such folder)." in page
    assert 'aria-label="Completions a day over 1 days: 1234 shown, 1 accepted"' in page
    assert "1 234" not in drawn(address), "without the token there are no figures"


def answered(*texts: str, finish: Finish = "line", cut: Cut | None = None) -> Answer:
    return Answer(
        completions=tuple(Completion(text, finish, (), 0.0, cut) for text in texts),
        model="m",
        prompt_tokens=1,
        reused_tokens=0,
        generated_tokens=1,
        healed_tokens=0,
        drafted_tokens=0,
        first_token_seconds=0.0,
        seconds=0.0,
    )


def test_every_silence_has_a_reason_that_a_developer_understands() -> None:
    assert set(EXPLANATION) == set(get_args(Reason))
    assert all(len(text.split()) >= 4 for text in EXPLANATION.values())
    assert why(answered("x")) == why(answered("", "x")) == "shown"
    assert why(answered()) == "warmed"
    assert why(answered("  ")) == "blank"
    assert why(answered("", cut="repeats_suffix")) == "repeats_suffix"


def test_every_reason_stands_in_the_documents_in_the_same_words() -> None:
    page = (Path(__file__).parents[2] / "docs" / "editors.md").read_text()
    for reason, text in EXPLANATION.items():
        if reason != "shown":
            assert f"| `{reason}` | {text}" in page


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("line", "line_complete"),
        ("block", "line_complete"),
        ("end", "document_complete"),
        ("stop", "stop_string"),
        ("length", "blank"),
    ],
)
def test_each_way_to_end_with_nothing_is_told_apart(finish: Finish, expected: Reason) -> None:
    assert why(answered("", finish=finish)) == expected
