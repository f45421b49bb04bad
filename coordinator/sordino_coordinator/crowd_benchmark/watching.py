"""What a process costs, as Linux counts it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sordino_privacy.errors import UsageError

TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """Seconds of a processor that the process has used, in user and kernel mode. Raises UsageError off Linux."""
    fields = _read(pid, "stat").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int, *, peak: bool = False) -> float:
    """Megabytes that are resident, or at most were since `forget_peak`. Raises UsageError off Linux."""
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", _read(pid, "status"))
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def forget_peak(pid: int) -> None:
    """The peak begins anew from what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="ascii")
    except OSError as error:
        raise UsageError(
            f"the figures of process {pid} cannot be read", hint="this benchmark needs Linux, for /proc"
        ) from error
