"""What a person gets wrong: one clear line that says what to do, the documented exit code, nothing lost."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sordino_platform.charter import shipped_model
from sordino_platform.identity.ceremony import found_in_folder

SORDINO = (sys.executable, "-P", "-m", "sordino_platform.cli")
NAMES = ("alder", "birch", "cedar", "dogwood", "elm")


def sordino(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SORDINO, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )


def refused(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    """One error line and one line of advice, no traceback, the documented exit code."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "what to do: "))]
    assert [line.split(":")[0] for line in lines] == ["error", "what to do"], done.stderr
    for text in said:
        assert text in "\n".join(lines), done.stderr


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("bad") / "federation"
    found_in_folder(
        folder,
        federation="test",
        members=[(n, f"{n} ltd") for n in NAMES],
        model=shipped_model(adapter_rank=1),
    )
    return folder


def join(place: Path, repository: Path) -> Path:
    member = place / "members" / "alder"
    done = sordino("client", "join", "--folder", member, "--coordinator", "127.0.0.1:1", "--repo", repository)
    assert done.returncode == 0, done.stderr
    return member


def test_a_repository_that_does_not_exist_is_refused_when_joining(place: Path, tmp_path: Path) -> None:
    member = place / "members" / "alder"
    done = sordino(
        "client", "join", "--folder", member, "--coordinator", "h:1", "--repo", tmp_path / "nowhere"
    )
    refused(done, 4, "nowhere is not a folder")
    assert not (member / "member.toml").exists()


@pytest.mark.parametrize(
    "address", ["localhost", "fl.example.org:", "fl.example.org:port", ":9443", "h:99999"]
)
def test_an_address_without_a_port_is_one_line(place: Path, tmp_path: Path, address: str) -> None:
    member = place / "members" / "alder"
    done = sordino("client", "join", "--folder", member, "--coordinator", address, "--repo", tmp_path)
    refused(done, 2, "--coordinator", "is not an address", "host:port")
    assert not (member / "member.toml").exists()


def test_a_budget_that_cannot_be_is_one_line(place: Path, tmp_path: Path) -> None:
    member = place / "members" / "alder"
    words: list[str | Path] = [
        "client",
        "join",
        "--folder",
        member,
        "--coordinator",
        "h:1",
        "--repo",
        tmp_path,
        "--budget",
        "-1",
    ]
    refused(sordino(*words), 3, "budget_epsilon")
    refused(sordino("coordinator", "new", "--folder", tmp_path, "--listen", "9443"), 2, "--listen")
    refused(sordino("coordinator", "new", "--folder", tmp_path, "--rounds", "-1"), 3, "rounds")


def test_an_empty_repository_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(sordino("client", "up", "--folder", join(place, tmp_path / "empty")), 4, "no source files")


def test_a_repository_too_small_to_be_private_is_refused_with_the_numbers(
    place: Path, tmp_path: Path
) -> None:
    for number in range(6):
        package = tmp_path / "small" / f"package{number}"
        package.mkdir(parents=True)
        text = "\n".join(
            f"def function_{number}_{i}(value):\n    return value * {i} + {number}" for i in range(40)
        )
        (package / "code.py").write_text(text)
    done = sordino("client", "up", "--folder", join(place, tmp_path / "small"))
    refused(done, 4, "64")


def test_an_unknown_setting_is_named_with_the_nearest_known_one(place: Path, tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    member = join(place, tmp_path / "repository")
    (member / "member.toml").write_text((member / "member.toml").read_text() + "size_buckett = 3\n")
    refused(sordino("client", "up", "--folder", member), 3, "size_buckett", "size_bucket")


def test_a_folder_without_an_identity_says_how_to_make_one(tmp_path: Path) -> None:
    refused(sordino("coordinator", "status", "--folder", tmp_path), 3, "sordino identity new")


def test_a_key_that_others_can_read_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    member = join(place, tmp_path / "repository")
    (member / "identity.key").chmod(0o644)
    refused(sordino("client", "up", "--folder", member), 3, "chmod 600")


def test_a_port_in_use_is_named(place: Path) -> None:
    coordinator = place / "coordinator"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = ("--listen", f"127.0.0.1:{port}", "--release-without-any-heldout-measurement")
        made = sordino("coordinator", "new", "--folder", coordinator, *options)
        assert made.returncode == 0, made.stderr
        refused(sordino("coordinator", "up", "--folder", coordinator), 7, str(port))


def test_a_coordinator_without_held_out_code_does_not_start_unless_its_settings_say_so(place: Path) -> None:
    coordinator = place / "coordinator"
    assert sordino("coordinator", "new", "--folder", coordinator).returncode == 0
    refused(sordino("coordinator", "up", "--folder", coordinator), 3, "heldout")


def test_a_settings_file_is_never_overwritten(place: Path) -> None:
    coordinator = place / "coordinator"
    assert sordino("coordinator", "new", "--folder", coordinator).returncode == 0
    before = (coordinator / "coordinator.toml").read_bytes()
    refused(sordino("coordinator", "new", "--folder", coordinator), 3, "exists already")
    assert (coordinator / "coordinator.toml").read_bytes() == before


def test_the_demo_does_not_empty_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    refused(sordino("demo", "--folder", tmp_path), 3, "--folder")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_too_few_repositories_for_the_demo_are_refused(tmp_path: Path) -> None:
    refused(sordino("demo", "--folder", tmp_path / "demo", "--repo", tmp_path), 4, "5 members")
