"""What only one system has is used behind one door: `sordino_platform.machine`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOOR = ROOT / "platform" / "sordino_platform" / "machine"
SOURCES = sorted(
    path
    for floor in ("privacy", "platform", "client", "coordinator")
    for path in (ROOT / floor).rglob("*.py")
    if DOOR not in path.parents and "node_modules" not in path.parts
)
# fmt: off
MODULES = frozenset({
    "fcntl", "resource", "pwd", "grp", "spwd", "termios", "tty", "pty", "syslog", "msvcrt", "winreg",
    "winsound", "_winapi", "psutil", "filelock", "ctypes",
})
# Of os, signal, socket and asyncio, and arguments of subprocess.
NAMES = frozenset({
    "nice", "getpriority", "setpriority", "fork", "forkpty", "killpg", "getpgid", "setpgid", "setsid",
    "getsid", "getuid", "geteuid", "getgid", "getegid", "chown", "fchown", "lchown", "fchmod", "mkfifo",
    "sched_getaffinity", "sched_setaffinity", "getloadavg", "sysconf", "posix_spawn", "startfile",
    "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY", "O_TMPFILE", "dir_fd",
    "supports_dir_fd", "fsync", "kill", "add_signal_handler", "SIGKILL", "SIGSTOP", "SIGCONT", "SIGHUP",
    "SIGUSR1", "SIGUSR2", "SIGBREAK", "AF_UNIX", "SO_REUSEADDR", "SO_REUSEPORT", "preexec_fn",
    "start_new_session", "creationflags", "start_unix_server", "open_unix_connection",
})
# fmt: on
PLACES = re.compile(r"(^|[^\w.])/(proc|sys|dev/fd|dev/shm)(/|$)|\b(systemctl|launchctl|schtasks)\b")
# Where something of one system is meant, and why the door is not for it.
ALLOWED = {
    # Below the door: the mechanisms import nothing of the platform. It asks first whether the system can.
    ("privacy/sordino_privacy/dpsgd/parallel.py", "sched_getaffinity"),
    ("privacy/sordino_privacy/dpsgd/parallel.py", "sched_setaffinity"),
}


def of_one_system(tree: ast.AST) -> Iterator[str]:
    """What a module uses that not every system has: modules, names, and places in the file system."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] in MODULES:
                    yield module
                if module in ("os", "signal", "socket"):
                    yield from (name.name for name in names if name.name in NAMES)
            case ast.Attribute(attr=name, value=ast.Name(id="sys")) if name == "platform":
                yield "sys.platform"
            case ast.Attribute(attr=name, value=ast.Name(id=owner)) if name in NAMES and owner in (
                "os",
                "signal",
                "socket",
                "asyncio",
                "loop",
            ):
                yield name
            case ast.keyword(arg=str(name)) if name in NAMES:
                yield name
            case ast.Constant(value=str(text)) if id(node) not in documentation and PLACES.search(text):
                yield text


@pytest.mark.parametrize(
    "line",
    [
        "import fcntl",
        "def f():\n    import resource",
        "from os import nice",
        "os.killpg(1, 2)",
        "open('/proc/self/status')",
        "f'/proc/{pid}/stat'",
        "subprocess.Popen(['x'], preexec_fn=f)",
        "subprocess.run(['systemctl', 'x'])",
        "if sys.platform == 'linux': pass",
        "loop.add_signal_handler(15, f)",
        "os.open('x', os.O_RDONLY | os.O_NOFOLLOW)",
    ],
)
def test_the_search_finds_it(line: str) -> None:
    assert list(of_one_system(ast.parse(line)))


def test_the_search_passes_over_what_every_system_has() -> None:
    text = '"""Reads /proc as a manual says."""\nimport os, signal, socket\nos.replace("a", "b")\nsignal.SIGTERM\n'
    assert not list(of_one_system(ast.parse(text)))


def test_no_module_outside_the_door_uses_what_only_one_system_has() -> None:
    assert len(SOURCES) > 300
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in SOURCES
        for name in of_one_system(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == ALLOWED


def test_every_topic_of_the_door_is_in_the_table_of_what_is_equal_and_what_is_lacking() -> None:
    table = (ROOT / "docs" / "systems.md").read_text()
    topics = {path.stem for path in DOOR.iterdir() if not path.name.startswith("__")}
    assert topics == set(re.findall(r"^## .*\(`(\w+)`\)$", table, re.MULTILINE))
