"""Resident memory of this process, as Linux counts it."""

from __future__ import annotations

import re
from pathlib import Path

from sordino_privacy.errors import UsageError


def resident(*, peak: bool = False) -> int:
    """Bytes that are in memory now, or at most were since `forget_peak`. Raises UsageError off Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise UsageError("memory is measured through /proc: run this benchmark on Linux")
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status.read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    """The peak begins anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
