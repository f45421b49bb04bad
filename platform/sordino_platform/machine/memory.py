"""How much memory this machine has, how much a process uses, and how to return freed memory to the system."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from pathlib import Path
from typing import Final

import psutil

from sordino_privacy.errors import UsageError

CONTROL_GROUPS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def total(limits: tuple[Path, ...] = CONTROL_GROUPS) -> int:
    """This machine's memory in bytes, or the limit of its control group (Linux), if that is less."""
    found = int(psutil.virtual_memory().total)
    for path in limits:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit() and int(text) > 0:
            found = min(found, int(text))
    return found


def resident(pid: int | None = None) -> int:
    """Bytes of a process, by default this one, that are in memory now. Raises UsageError when it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error as error:
        raise UsageError(f"the memory of process {pid} cannot be read") from error


def peak() -> int:
    """The most bytes of this process that were ever in memory at once."""
    try:
        import resource
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_since(pid: int | None = None) -> int:
    """The most bytes of a process that were in memory at once since `forget_peak`. Raises UsageError off Linux."""
    try:
        status = (_process(pid) / "status").read_text(encoding="ascii")
    except OSError as error:
        raise UsageError("a peak is measured through /proc", hint="run this benchmark on Linux") from error
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def forget_peak(pid: int | None = None) -> None:
    """Resets the peak of a process to its resident memory now. Raises UsageError off Linux."""
    try:
        (_process(pid) / "clear_refs").write_text("5", encoding="ascii")
    except OSError as error:
        raise UsageError("a peak is measured through /proc", hint="run this benchmark on Linux") from error


def _process(pid: int | None) -> Path:
    return Path("/proc") / ("self" if pid is None else str(pid))


def return_freed() -> None:
    """Returns freed memory to the system. Loading and long prompts leave freed memory in the C library's heap. glibc
    returns it when asked; other libraries do so by themselves or never."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
