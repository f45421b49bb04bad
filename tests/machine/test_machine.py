"""Each topic of the door, on both of its sides where the other can be driven here."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sordino_platform.machine import files, memory, power, processes, processors, sockets
from sordino_platform.machine.endings import SIGNALS, on_ending, on_ending_in
from sordino_platform.machine.locks import Lock
from sordino_privacy.errors import UsageError

ANOTHER = """
import sys
from pathlib import Path
from sordino_platform.machine.locks import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.try_take(), flush=True)
sys.stdin.read()
"""


def until(claim: object, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not claim():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as child:
        yield child
        child.kill()


class TestLocks:
    def test_one_process_holds_it_and_its_death_lets_go(self, tmp_path: Path) -> None:
        path = tmp_path / "lock"
        other = subprocess.Popen(
            [sys.executable, "-c", ANOTHER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        assert other.stdin is not None
        with other.stdin, other.stdout, Lock(path) as lock:
            assert other.stdout.readline() == "True\n"
            assert not lock.try_take()
            other.kill()
            other.wait()
            assert lock.try_take()

    def test_letting_go_lets_the_next_one_in_and_the_file_stays(self, tmp_path: Path) -> None:
        with Lock(tmp_path / "lock") as one, Lock(tmp_path / "lock") as two:
            one.take()
            assert not two.try_take()
            one.release()
            assert two.try_take()
        assert (tmp_path / "lock").exists()
        assert os.name != "posix" or stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600

    @pytest.mark.skipif(os.name != "posix", reason="has fcntl")
    def test_an_earlier_sordino_s_lock_keeps_this_one_out(self, tmp_path: Path) -> None:
        import fcntl

        with (tmp_path / "lock").open("w") as earlier, Lock(tmp_path / "lock") as lock:
            fcntl.flock(earlier, fcntl.LOCK_SH)
            assert not lock.try_take()

    def test_no_child_inherits_it(self, tmp_path: Path) -> None:
        lock = Lock(tmp_path / "lock")
        lock.take()
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
        lock.close()
        with Lock(tmp_path / "lock") as next_one:
            until(next_one.try_take)  # the kernel closes the child's copy a moment after it has begun
        assert child.poll() is None
        child.communicate(b"\n")

    def test_without_create_what_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Lock(tmp_path / "lock", create=False)


@pytest.mark.skipif(os.name != "posix", reason="has fcntl and modes")
class TestFiles:
    def test_macos_is_asked_to_empty_the_drive_s_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fcntl

        asked: list[int] = []
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)  # sys/fcntl.h of macOS
        monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, order: asked.append(order))
        monkeypatch.setattr(os, "fsync", lambda _: asked.append(0))
        with (tmp_path / "file").open("wb") as file:
            files.sync(file.fileno())
        assert asked == [51]

    def test_a_disk_that_does_not_know_that_is_asked_as_any_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fcntl

        asked: list[int] = []
        monkeypatch.setattr(
            fcntl, "F_FULLFSYNC", 51, raising=False
        )  # an order that Linux does not know: OSError
        monkeypatch.setattr(os, "fsync", lambda _: asked.append(0))
        with (tmp_path / "file").open("wb") as file:
            monkeypatch.setattr(fcntl, "fcntl", lambda *_: (_ for _ in ()).throw(OSError))
            files.sync(file.fileno())
        assert asked == [0]

    def test_windows_has_no_mode_to_ask_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "file"
        path.touch(mode=0o666)
        path.chmod(0o666)
        assert files.open_to_others(path.stat())
        status = path.stat()
        monkeypatch.setattr(os, "name", "nt")
        assert not files.open_to_others(status)
        monkeypatch.delattr(os, "geteuid")
        assert not files.is_anothers(status)

    def test_a_private_file_is_made_so_and_a_link_is_refused(self, tmp_path: Path) -> None:
        files.make_private(tmp_path / "file")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="symbolic links"):
            files.make_private(tmp_path / "link")
        assert not (tmp_path / "elsewhere").exists()


class TestProcesses:
    def test_who_lives_and_who_does_not(self, sleeper: subprocess.Popen[bytes]) -> None:
        assert processes.alive(sleeper.pid)
        assert os.name != "posix" or processes.alive(1)  # another user's, where the tests are not root
        sleeper.kill()
        sleeper.wait()
        assert not processes.alive(sleeper.pid)

    @pytest.mark.skipif(os.name != "posix", reason="a suspended process of Windows has no status of its own")
    def test_a_paused_process_stands_still_and_goes_on(self, sleeper: subprocess.Popen[bytes]) -> None:
        status = psutil.Process(sleeper.pid).status
        processes.pause(sleeper.pid)
        until(lambda: status() == psutil.STATUS_STOPPED)
        processes.resume(sleeper.pid)
        until(lambda: status() != psutil.STATUS_STOPPED)

    def test_windows_gives_way_by_its_idle_class(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []
        monkeypatch.setattr(psutil, "IDLE_PRIORITY_CLASS", 64, raising=False)  # winbase.h
        monkeypatch.setattr(psutil.Process, "nice", lambda _, value: asked.append(value))
        processes.give_way()
        assert asked == [64]

    def test_one_that_has_ended_is_left_alone(self, sleeper: subprocess.Popen[bytes]) -> None:
        sleeper.kill()
        sleeper.wait()
        processes.pause(sleeper.pid)
        processes.resume(sleeper.pid)

    def test_a_process_that_grows_beyond_its_size_is_told_where_no_allocation_is_refused(self) -> None:
        code = (
            "import os, time; from sordino_platform.machine.processes import watch_size;"
            "watch_size(100 << 20, lambda: os._exit(7)); held = b'x' * (200 << 20); time.sleep(60)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7

    def test_a_child_ends_when_its_stdin_closes_and_ends_in_order(self, tmp_path: Path) -> None:
        code = (
            "import signal, sys, time; from pathlib import Path;"
            "from sordino_platform.machine import endings, processes;"
            "endings.on_ending(lambda told: (Path(sys.argv[1]).write_text(told), sys.exit(0)));"
            "processes.end_when_stdin_closes();\n"
            "while True: time.sleep(0.05)"
        )
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "told")], stdin=subprocess.PIPE)
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(60) == 0
        assert (tmp_path / "told").read_text() == "SIGTERM"

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends a child a signal")
    def test_a_bound_child_dies_with_a_parent_that_was_killed(self) -> None:
        code = (
            "import sys, time; from sordino_platform.machine.processes import start_bound;"
            "print(start_bound([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True);"
            "time.sleep(600)"
        )
        parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.communicate()
        gone, _ = psutil.wait_procs([child], timeout=30)
        assert gone

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a child by a command of its own")
    def test_a_bound_child_is_the_command_itself_and_one_that_is_not_there_ends(self) -> None:
        child = processes.start_bound(
            [sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE
        )
        assert int(child.communicate()[0]) == child.pid
        assert processes.start_bound(["/nowhere/at-all"]).wait(60) == 127

    @pytest.mark.skipif(os.name != "posix", reason="forks")
    def test_a_bound_child_is_started_without_the_handlers_of_a_fork(self) -> None:
        """gRPC's run there: where its threads are opening a link, they end the parent or the child."""
        code = (
            "import os, sys; from sordino_platform.machine.processes import start_bound;"
            "os.register_at_fork(before=lambda: print('forked', flush=True));"
            "start_bound([sys.executable, '-c', 'print(1)']).wait()"
        )
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"1\n"

    @pytest.mark.skipif(os.name != "posix", reason="has SIGKILL")
    def test_a_signal_s_name_is_told_and_an_exit_code_is_none(self) -> None:
        assert processes.ending(-9) == "SIGKILL"
        assert processes.ending(3) == ""


class TestMemory:
    def test_a_control_group_counts_where_it_allows_less(self, tmp_path: Path) -> None:
        limit, none = tmp_path / "limit", tmp_path / "none"
        limit.write_text("1048576\n")
        none.write_text("max\n")
        assert memory.total((none, tmp_path / "missing", limit)) == 1 << 20
        assert memory.total((none,)) == psutil.virtual_memory().total

    def test_what_a_process_holds_and_held(self) -> None:
        assert 0 < memory.resident() <= memory.peak() * 1.05
        with pytest.raises(UsageError):
            memory.resident(2**22 + 1)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
    def test_a_peak_begins_anew(self) -> None:
        held = bytearray(100 << 20)
        held[:] = b"x" * len(held)
        assert memory.peak_since() > 100 << 20
        size = len(held)
        del held
        memory.return_freed()
        before = memory.peak_since()
        memory.forget_peak()
        assert memory.peak_since() < before - size / 2


@pytest.mark.skipif(sys.platform != "linux", reason="keeps processes on processors")
def test_processors_are_asked_for_what_they_did() -> None:
    used = processors.used_seconds(os.getpid())
    assert abs(used - time.process_time()) < 1
    assert processors.load_average() >= 0
    before = psutil.Process().cpu_affinity()
    with processors.one_processor():
        assert len(psutil.Process().cpu_affinity()) == 1
    assert psutil.Process().cpu_affinity() == before


@dataclass(frozen=True, slots=True)
class Battery:
    power_plugged: bool | None


@pytest.mark.parametrize(
    ("battery", "expected"),
    [(None, False), (Battery(None), False), (Battery(True), False), (Battery(False), True)],
)
def test_a_battery_of_macos_or_windows_counts_when_it_is_known_to_be_unplugged(
    battery: Battery | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "POWER_SUPPLIES", tmp_path / "none")
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert power.battery_in_use() is expected


def test_where_psutil_knows_of_no_batteries_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "POWER_SUPPLIES", tmp_path / "none")
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert not power.battery_in_use()


@pytest.mark.skipif(os.name != "posix", reason="has Unix sockets")
class TestSockets:
    def test_the_own_socket_is_its_owner_s_alone_and_takes_the_place_of_an_old_one(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "s.sock"
        for _ in range(2):
            own = sockets.own(path)
            assert own is not None
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            own.close()

    def test_a_name_too_long_for_macos_gets_none(self, tmp_path: Path) -> None:
        assert sockets.own(tmp_path / ("x" * 120)) is None

    def test_without_unix_sockets_there_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(socket, "AF_UNIX")
        assert sockets.own(tmp_path / "s.sock") is None

    def test_on_windows_the_port_is_claimed_for_us_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []

        class Unbound:
            def setsockopt(self, level: int, option: int, value: int) -> None:
                asked.append(option)

        monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)  # winsock2.h: ~SO_REUSEADDR
        sockets.claim(Unbound())  # type: ignore[arg-type]
        assert asked == [-5]


class TestEndings:
    @pytest.fixture(autouse=True)
    def _kept(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in SIGNALS}
        yield
        for number, handler in before.items():
            signal.signal(number, handler)

    def test_the_signal_is_told_by_name(self) -> None:
        told: list[str] = []
        on_ending(told.append)
        signal.raise_signal(signal.SIGTERM)
        assert told == ["SIGTERM"]

    @pytest.mark.parametrize("loops", ["ours", "windows"])
    def test_a_loop_ends_however_it_hears_of_it(self, loops: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async def run() -> None:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            if loops == "windows":

                def refuse(*_: object) -> None:
                    raise NotImplementedError

                monkeypatch.setattr(loop, "add_signal_handler", refuse)
            on_ending_in(loop, ended.set)
            # From another thread, as `end_when_stdin_closes` does while the loop sleeps.
            threading.Timer(0.2, signal.raise_signal, [signal.SIGTERM]).start()
            await asyncio.wait_for(ended.wait(), 30)

        asyncio.run(run())
