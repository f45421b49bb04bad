"""The processors of this machine: which ones this process may use, how busy they are, and how much time a process has
used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import psutil

from sordino_privacy.errors import UsageError


def load_average() -> float:
    """How many processes wanted a processor in the last minute, on average. On Windows 0 in a process's first
    seconds."""
    return float(psutil.getloadavg()[0])


def used_seconds(pid: int) -> float:
    """Seconds of processor time that a process has used, in user and kernel mode. Raises UsageError when it has
    ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error as error:
        raise UsageError(f"the times of process {pid} cannot be read") from error
    return float(times.user + times.system)


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """Keeps this process on one processor within the block, on Linux; elsewhere it changes nothing."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(everywhere)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)
