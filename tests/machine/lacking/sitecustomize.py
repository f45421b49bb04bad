"""A Python that lacks what Windows lacks, as far as that can be taken away here: first in a child's PYTHONPATH.

What stays is what the libraries stand on here: filelock and psutil have a Windows side of their own, and are loaded
before anything is taken away. A name that is taken away raises AttributeError or ImportError, as it does there.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any

import filelock  # noqa: F401  # loaded whole, first
import psutil  # noqa: F401

for module in ("resource", "pwd", "grp", "termios"):
    sys.modules[module] = None  # type: ignore[assignment]

for name in (
    *("killpg", "setsid", "getloadavg"),
    *(
        "sched_getaffinity",
        "sched_setaffinity",
        "O_NOFOLLOW",
        "O_DIRECTORY",
        "O_NONBLOCK",
        "O_NOCTTY",
        "O_CLOEXEC",
    ),
):
    delattr(os, name)
os.supports_dir_fd.clear()
os.supports_fd.discard(os.scandir)

# asyncio wakes itself through a pair of sockets, which Windows makes of two TCP sockets.
_pair, _family = socket.socketpair, socket.AF_UNIX


def _socketpair(*_: Any, **__: Any) -> tuple[socket.socket, socket.socket]:
    return _pair(_family)


socket.socketpair = _socketpair
del socket.AF_UNIX


def _refuse(*_: Any, **__: Any) -> None:
    raise NotImplementedError


asyncio.SelectorEventLoop.add_signal_handler = _refuse  # type: ignore[method-assign, assignment]
