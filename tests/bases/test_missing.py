"""A member whose base is not here, with the real commands: told its name, its digest and the command, and nothing is
lost; once it was added, the agent finds it by its digest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.completion import foreign_bases
from tests.federation import inprocess

from sordino_client.completion import asking
from sordino_platform.charter import HuggingFaceTerms
from sordino_platform.huggingface_model import describe
from sordino_privacy.errors import ConfigurationError

SORDINO = (sys.executable, "-m", "sordino_platform.cli")


@pytest.fixture
def member(tmp_path: Path) -> Path:
    """A member of a federation on a base that lies on this machine, and was not added here."""
    folder = foreign_bases.write(tmp_path / "there", "llama")
    repository = tmp_path / "repository"
    repository.mkdir()
    for number in range(12):
        lines = [f"def compute_{number}_{one}(left):\n    return left + {one}\n" for one in range(9)]
        (repository / f"module_{number}.py").write_text("\n".join(lines))
    inprocess.found_in(
        tmp_path / "federation",
        model=HuggingFaceTerms.of(describe(folder, rank=2), name="company-base"),
        of_members={"repositories": [str(repository)], "minimum_units": 2, "heldout_share": 0.0},
    )
    return tmp_path / "federation" / "members" / "alder"


def digest(tmp_path: Path) -> str:
    return describe(tmp_path / "there", rank=2).base_sha256


def said(*arguments: str) -> tuple[int, str]:
    """What a command that ends says, and with what it ends."""
    done = subprocess.run([*SORDINO, *arguments], capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_up_says_what_is_missing_and_runs_once_it_was_added(member: Path, tmp_path: Path) -> None:
    settings = (member / "member.toml").read_text()
    code, text = said("client", "up", "--folder", str(member))
    assert code == ConfigurationError.exit_code
    assert f"company-base, digest {digest(tmp_path)}" in text
    assert "sordino base add FOLDER" in text
    assert text.count("\n") == 2  # what is wrong, and what to do
    assert (member / "member.toml").read_text() == settings
    code, text = said("base", "add", str(tmp_path / "there"))
    assert code == 0, text
    with (tmp_path / "agent.log").open("w") as log:
        agent = subprocess.Popen([*SORDINO, "client", "up", "--folder", str(member)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while (found := asking.find_endpoint(member / "completion")) is None:
            assert agent.poll() is None, (tmp_path / "agent.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        answer = found.ask("POST", "/v1/completions", {"prompt": "def add(left", "show": "all"})
        # Under the name that it has on this machine.
        assert answer["model"] == "there"
    finally:
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(60) == 0


def test_a_name_in_the_settings_that_is_no_base_is_said_with_the_digest(member: Path, tmp_path: Path) -> None:
    path = member / "member.toml"
    path.write_text(path.read_text() + 'base_model = "smollm3"\n')
    code, text = said("client", "up", "--folder", str(member))
    assert code == ConfigurationError.exit_code
    assert "base_model of member.toml: there is no base called 'smollm3' here" in text
    assert f"company-base, digest {digest(tmp_path)}" in text


def test_join_and_doctor_say_it_before_a_round_would(member: Path, tmp_path: Path) -> None:
    (member / "member.toml").unlink()
    code, text = said(
        "client", "join", "--coordinator", "127.0.0.1:1", "--repo", str(tmp_path / "repository"),
        "--folder", str(member),
    )  # fmt: skip
    assert code == 0, text
    assert (member / "member.toml").exists()
    for line in (text, said("doctor", str(member))[1]):
        words = " ".join(line.split())
        assert f"company-base, digest {digest(tmp_path)}" in words
        assert "sordino base add FOLDER" in words
    assert os.environ["XDG_DATA_HOME"].startswith(str(tmp_path))
