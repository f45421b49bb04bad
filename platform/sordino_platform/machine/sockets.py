"""Sockets that only this machine can reach: a port of the loopback address, and a file that only its owner may open."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
# sun_path without its NUL: 108 bytes on Linux, 104 on macOS. The smaller one, so that a folder can be moved between
# them.
MAX_UNIX_PATH: Final = 103


def loopback(port: int) -> socket.socket:
    """A bound TCP socket; port 0 takes any free port. Raises OSError or OverflowError when the port cannot be used."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        claim(found)
        found.bind((LOOPBACK, port))
    except BaseException:
        found.close()
        raise
    return found


def claim(unbound: socket.socket) -> None:
    """Lets `unbound` be bound to a port as soon as its last holder has ended, and then keeps the port for us alone.

    The systems need different options: on Windows SO_REUSEADDR would let another user's program bind the same port and
    answer in our place.
    """
    option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
    unbound.setsockopt(socket.SOL_SOCKET, option, 1)


def own(path: Path) -> socket.socket | None:
    """A Unix socket bound at `path` with mode 0600. It replaces an existing file.

    None when the system has no Unix sockets (Windows: editors use the port) or the path is too long. Raises OSError.
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
