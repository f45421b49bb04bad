"""Other processes, and this one: is it alive, pause it, lower its priority, limit its memory, end it with its parent.

psutil has most of these under one name for every system. The rest uses the system itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from sordino_privacy.errors import UsageError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LOWEST: Final = 19
FIRST_TO_END: Final = "1000"
BINDING: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError:
    sys.exit(127)
"""
"""The code that a bound child runs first, in its own interpreter, before it becomes the command.

`preexec_fn` would run it between fork and exec, in a copy of this process without its other threads. gRPC's fork
handlers run there too. They have crashed parents (SIGSEGV) and children (a failed check) that were started while a link
was being opened."""
OUT_OF_MEMORY_SCORE: Final = Path("/proc/self/oom_score_adj")
WATCH_SECONDS: Final = 0.25


def alive(pid: int) -> bool:
    """Whether a process of that number exists."""
    return bool(psutil.pid_exists(pid))


def pause(pid: int) -> None:
    """Pauses a process: it keeps its memory and uses no processor time. Does nothing when it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).suspend()


def resume(pid: int) -> None:
    """Lets a paused process continue. Does nothing when it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).resume()


def processes_marked(name: str, value: str) -> dict[int, str]:
    """The processes of this user that were started with `name=value` in their environment, and each one's command."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(name) == value:
                found[process.pid] = " ".join(process.cmdline())
    return found


def end_at_once(pid: int) -> None:
    """Kills a process without warning. Does nothing when it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()


def ending(code: int) -> str:
    """The name of the signal that ended a process with this exit code, or an empty string."""
    return signal.Signals(-code).name if code < 0 else ""


def give_way(*, priority: int = LOWEST) -> None:
    """Lets this process run only when no other wants the processor: niceness `priority`; idle priority on Windows."""
    idle = getattr(psutil, "IDLE_PRIORITY_CLASS", None)  # Windows alone has classes
    if idle is None:
        os.nice(priority)
    else:
        psutil.Process().nice(idle)


def end_first() -> None:
    """When memory runs out, the system ends this process before others. Works on Linux only; elsewhere it does
    nothing."""
    if OUT_OF_MEMORY_SCORE.exists():
        OUT_OF_MEMORY_SCORE.write_text(FIRST_TO_END, encoding="ascii")


def leave_no_dump() -> None:
    """Prevents core dumps: a crash writes no image of this process's memory. Windows writes one only when its
    administrator asked for it, and a process cannot prevent that."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def hold_to(size: int, exceeded: Callable[[], None]) -> None:
    """Limits this process to `size` bytes of memory.

    Linux refuses an allocation that would exceed it, and Python raises MemoryError. macOS and Windows refuse nothing:
    there a thread checks four times a second, and calls `exceeded` once when more is resident.
    """
    if sys.platform == "linux" and resource is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    else:
        watch_size(size, exceeded)


def watch_size(size: int, exceeded: Callable[[], None]) -> None:
    """Calls `exceeded` from a separate thread when more than `size` bytes of this process are resident."""
    own = psutil.Process()

    def watch() -> None:
        while own.memory_info().rss <= size:
            time.sleep(WATCH_SECONDS)
        exceeded()

    threading.Thread(target=watch, name="memory-limit", daemon=True).start()


def many_files() -> None:
    """Raises the number of files that this process may have open to its hard limit. Windows has no such limit."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError):  # macOS reports "unlimited" but allows less
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def start_bound(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Starts a child that does not outlive this process, even when this one is killed.

    Linux sends the child SIGTERM. Other systems do not: a child that must end too reads its stdin, which closes. A
    command that does not exist ends with 127.
    """
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", BINDING, str(os.getpid()), *command]
    return subprocess.Popen(command, **options)


def end_when_stdin_closes() -> None:
    """Ends this process, as on a request to end, when its parent has ended and so our stdin closes."""

    def wait() -> None:
        # Not through sys.stdin: a thread that holds its lock makes the interpreter abort at exit.
        while os.read(0, 4096):
            pass
        # Not os.kill: on Windows that kills the process without warning.
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=wait, name="stdin", daemon=True).start()


class ProcessSession:
    """A child that leads its own session, with everything that it starts. Linux and macOS."""

    def __init__(self, command: Sequence[str], *, log: Any, environment: Mapping[str, str]) -> None:
        """Starts `command` with stdin closed and its output in `log`. Raises UsageError on Windows."""
        if not hasattr(os, "killpg"):
            raise UsageError(
                "this system cannot end a process with all that it started", hint="use Linux or macOS"
            )
        self.process = start_bound(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **environment},
        )

    def end(self) -> None:
        """Requests the whole session to end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kills the whole session, and waits until it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
