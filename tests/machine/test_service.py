"""The service files: each system's own reader finds in them what was asked for."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sordino_client.completion import user_service
from sordino_platform import user_services
from sordino_platform.machine.service import UserService
from sordino_platform.machine.service.launchd import Launchd
from sordino_platform.machine.service.systemd import Systemd
from sordino_platform.machine.service.task_scheduler import TaskScheduler, windowless
from sordino_privacy.errors import ConfigurationError, UsageError

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="its stand-ins for the systems' programs are shell scripts"
)
ROOT = Path(__file__).parents[2]
AWKWARD = UserService(
    name="sordino-serve",
    description="completions & more",
    command=["/opt/py thon", "--repo", 'a "b" 5%$ <c> \\', "--port", "0"],
)
TASKS = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}


def asked(folder: Path) -> UserService:
    return user_service.definition(folder, [folder / "a b"], model=Path("/h/run"), port=4711, show="quiet")


def test_serve_asks_for_what_was_given() -> None:
    command = list(asked(Path("/h/x")).command)
    assert command[:4] == [sys.executable, "-P", "-m", "sordino_platform.cli"]
    wanted = "serve|--folder|/h/x|--repo|/h/x/a b|--model|/h/run|--port|4711|--show|quiet"
    assert command[4:] == wanted.split("|")


def test_a_line_break_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot name"):
        asked(Path("/h\nExecStart=/bin/false"))


class TestSystemd:
    def test_every_word_is_quoted(self) -> None:
        text = Systemd().definition(AWKWARD).decode()
        (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
        assert line == 'ExecStart="/opt/py thon" "--repo" "a \\"b\\" 5%%$$ <c> \\\\" "--port" "0"'

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd's own checker")
    def test_systemd_takes_the_unit(self, tmp_path: Path) -> None:
        path = tmp_path / Systemd().place("sordino-serve").name
        path.write_bytes(Systemd().definition(asked(tmp_path)))
        command = ["systemd-analyze", "--user", "verify", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Unknown" not in done.stderr
        assert path.name not in done.stderr


class TestLaunchd:
    def test_the_property_list_holds_the_words_as_they_are(self) -> None:
        found = plistlib.loads(Launchd().definition(AWKWARD))
        assert found["ProgramArguments"] == list(AWKWARD.command)
        assert found["Label"] == "org.sordino.serve"
        assert found["KeepAlive"] == {"SuccessfulExit": False}
        assert found["Umask"] == 0o077
        assert Launchd().place("sordino-serve").name == "org.sordino.serve.plist"

    def test_it_is_begun_and_ended_in_the_user_s_session(self) -> None:
        session = f"gui/{os.getuid()}"
        place = str(Path.home() / "Library/LaunchAgents/org.sordino.serve.plist")
        assert Launchd().starting("sordino-serve") == [["launchctl", "bootstrap", session, place]]
        assert Launchd().ending("sordino-serve") == [["launchctl", "bootout", f"{session}/org.sordino.serve"]]


class TestTaskScheduler:
    def test_the_task_holds_the_words_so_that_a_program_gets_them_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("USERDOMAIN", "A&B")
        monkeypatch.setenv("USERNAME", "anna")
        data = TaskScheduler().definition(AWKWARD)
        assert data.startswith((b"\xff\xfe", b"\xfe\xff"))
        task = ElementTree.fromstring(data)
        assert task.findtext(".//t:Command", namespaces=TASKS) == "/opt/py thon"
        # The rules of the C runtime, by the one who reads them there: a quote is escaped, a last backslash doubled.
        arguments = task.findtext(".//t:Arguments", namespaces=TASKS)
        assert arguments == '--repo "a \\"b\\" 5%$ <c> \\\\" --port 0'
        assert [e.text for e in task.findall(".//t:UserId", TASKS)] == ["A&B\\anna"] * 2
        assert task.findtext(".//t:RunLevel", namespaces=TASKS) == "LeastPrivilege"
        assert task.findtext(".//t:ExecutionTimeLimit", namespaces=TASKS) == "PT0S"
        assert task.findtext(".//t:DisallowStartIfOnBatteries", namespaces=TASKS) == "false"

    def test_no_console_window_opens_where_that_interpreter_is(self, tmp_path: Path) -> None:
        python = tmp_path / "python.exe"
        assert windowless(str(python)) == str(python)
        (tmp_path / "pythonw.exe").touch()
        assert windowless(str(python)) == str(tmp_path / "pythonw.exe")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A machine on which only `program` manages services: it writes what it is told to a file, and obeys."""

    def make(program: str) -> Path:
        told = tmp_path / "told"
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / program).write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
        (tmp_path / "bin" / program).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        for name in ("HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA"):
            monkeypatch.setenv(name, str(tmp_path / "home"))
        return told

    return make


@pytest.mark.parametrize(
    ("program", "file", "orders"),
    [
        (
            "systemctl",
            "home/systemd/user/sordino-serve.service",
            [
                "--user daemon-reload",
                "--user enable --now sordino-serve.service",
                "--user disable --now sordino-serve.service",
                "--user daemon-reload",
            ],
        ),
        (
            "launchctl",
            "home/Library/LaunchAgents/org.sordino.serve.plist",
            ["bootstrap gui/{uid} {file}", "bootout gui/{uid}/org.sordino.serve"],
        ),
        (
            "schtasks",
            "home/sordino/sordino-serve.xml",
            [
                "/Create /F /TN sordino-serve /XML {file}",
                "/Run /TN sordino-serve",
                "/End /TN sordino-serve",
                "/Delete /F /TN sordino-serve",
            ],
        ),
    ],
)
def test_each_system_s_own_program_is_told_and_the_file_comes_and_goes(
    machine: Callable[[str], Path], tmp_path: Path, program: str, file: str, orders: list[str]
) -> None:
    told = machine(program)
    user_services.install(AWKWARD)
    assert (tmp_path / file).exists()
    assert (tmp_path / file).stat().st_mode & 0o077 == 0
    user_services.remove(AWKWARD.name)
    assert not (tmp_path / file).exists()
    wanted = [order.format(uid=os.getuid(), file=tmp_path / file) for order in orders]
    assert told.read_text().splitlines() == wanted
    user_services.remove(AWKWARD.name)  # it is gone: nothing is said
    assert told.read_text().splitlines() == wanted


def test_a_service_that_is_there_is_ended_before_it_is_begun_anew(machine: Callable[[str], Path]) -> None:
    told = machine("launchctl")
    user_services.install(AWKWARD)
    user_services.install(AWKWARD)
    assert [line.split()[0] for line in told.read_text().splitlines()] == [
        "bootstrap",
        "bootout",
        "bootstrap",
    ]


def test_what_the_manager_refuses_is_told(machine: Callable[[str], Path], tmp_path: Path) -> None:
    machine("launchctl")
    (tmp_path / "bin" / "launchctl").write_text("#!/bin/sh\necho 'Bootstrap failed: 5' >&2\nexit 5\n")
    with pytest.raises(ConfigurationError, match="Bootstrap failed: 5"):
        user_services.install(AWKWARD)


def agent_s_words(data: bytes) -> list[str]:
    return list(plistlib.loads(data)["ProgramArguments"])


def task_s_words(data: bytes) -> list[str]:
    task = ElementTree.fromstring(data)
    words = [task.findtext(f".//t:{part}", "", TASKS) for part in ("Command", "Arguments")]
    return " ".join(words).split()


MEMBER_FILES: dict[str, Callable[[bytes], list[str]]] = {
    "deploy/launchd/org.sordino.member.plist": agent_s_words,
    "deploy/windows/sordino-member.xml": task_s_words,
}


@pytest.mark.parametrize("path", MEMBER_FILES)
def test_the_member_s_files_run_the_same_command_as_systemd_s(path: str) -> None:
    unit = (ROOT / "deploy/systemd/sordino-member.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    _, *wanted, _ = line.removeprefix("ExecStart=").split()
    program, *words = MEMBER_FILES[path]((ROOT / path).read_bytes())
    assert program.startswith("HOME")
    assert words[:-1] == wanted
    assert words[-1].startswith("HOME")


@pytest.mark.parametrize("path", MEMBER_FILES)
def test_the_member_s_files_keep_what_serve_s_own_keep(path: str) -> None:
    """Same keys, but for where the program and its log lie."""
    data = (ROOT / path).read_bytes()
    if path.endswith(".plist"):
        made = plistlib.loads(Launchd().definition(AWKWARD))
        found = plistlib.loads(data)
        own = {"Label", "ProgramArguments", "StandardOutPath", "StandardErrorPath", "EnvironmentVariables"}
        assert {k: v for k, v in found.items() if k not in own} == {
            k: v for k, v in made.items() if k not in own
        }
    else:
        made = ElementTree.fromstring(TaskScheduler().definition(AWKWARD))
        found_settings, made_settings = (
            {e.tag: (e.text or "").strip() for e in tree.find("t:Settings", TASKS) or []}
            for tree in (ElementTree.fromstring(data), made)
        )
        assert found_settings == made_settings
