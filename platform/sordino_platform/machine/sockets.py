"""Doors of this machine only: a port of the loopback address, and a file that only its owner may open."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
# sun_path less its NUL: 108 bytes on Linux, 104 on macOS. The smaller one, so that a folder may move between them.
MAX_UNIX_PATH: Final = 103


def loopback(port: int) -> socket.socket:
    """A bound TCP socket; 0 takes any free port. Raises OSError or OverflowError where it cannot be used."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        claim(found)
        found.bind((LOOPBACK, port))
    except BaseException:
        found.close()
        raise
    return found


def claim(unbound: socket.socket) -> None:
    """The port that `unbound` will be bound to is free again as soon as its last holder is gone, and then ours alone.

    Two systems, two options: on Windows SO_REUSEADDR would let another user's program bind the same port and answer in
    our place.
    """
    option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
    unbound.setsockopt(socket.SOL_SOCKET, option, 1)


def own(path: Path) -> socket.socket | None:
    """A Unix socket bound at `path` with mode 0600, in place of what lies there.

    None where the system has none (Windows: editors use the port) or the name is too long for one. Raises OSError.
    """
    if not hasattr(socket, "AF_UNIX") or len(os.fsencode(path)) > MAX_UNIX_PATH:
        return None
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)  # the socket must never exist with a wider mode, not even for a moment
    try:
        path.unlink(missing_ok=True)
        found.bind(str(path))
    except BaseException:
        found.close()
        raise
    finally:
        os.umask(previous)
    return found
