"""The parts that the member's two local endpoints share: sockets on this machine only, and a token.

Completions (sordino_client.completion) and control (sordino_client.control) are two doors of two processes with a
folder each:

FOLDER/token        the bearer token, 0600, made on the first start
FOLDER/NAME.json    {"port", "pid", "socket"}: where it listens; gone when it has ended
FOLDER/NAME.sock    the same endpoint as a Unix socket, 0600; not on Windows
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from pathlib import Path

from sordino_platform import durable
from sordino_platform.machine import sockets
from sordino_privacy.errors import ConfigurationError, PortInUseError, StorageError

LOOPBACK = sockets.LOOPBACK


def read_token(state: Path) -> str:
    """The endpoint's token, made on first use. Raises ConfigurationError when others can read the file."""
    path = state / "token"
    if not path.exists():
        with contextlib.suppress(ConfigurationError):  # another process was faster: its token counts
            durable.write_file(path, secrets.token_urlsafe(32).encode() + b"\n", secret=True, replace=False)
    token = durable.read_secret(path, limit=256).decode("ascii", "replace").strip()
    if len(token) < 32:
        raise ConfigurationError("the token file holds no token", hint=f"remove {path} and start again")
    return token


def listen(state: Path, name: str, port: int) -> list[socket.socket]:
    """The bound loopback socket and, where the folder's name is short enough for one, the Unix socket.

    Raises PortInUseError or StorageError.
    """
    try:
        tcp = sockets.loopback(port)
    except (OSError, OverflowError) as error:
        raise PortInUseError(
            f"port {port} on this machine cannot be used", hint="choose another port, or 0 for any free one"
        ) from error
    try:
        local = sockets.own(state / f"{name}.sock")
    except OSError as error:
        tcp.close()
        raise StorageError("the Unix socket cannot be made", hint=f"look at {state}") from error
    return [tcp] if local is None else [tcp, local]


def announce(state: Path, name: str, listening: list[socket.socket]) -> int:
    """Writes the file by which editors find the endpoint; gives its port. Raises StorageError."""
    tcp, *local = listening
    port: int = tcp.getsockname()[1]
    document = {"port": port, "pid": os.getpid(), "socket": local[0].getsockname() if local else None}
    durable.write_file(state / f"{name}.json", json.dumps(document).encode(), secret=True)
    return port


def close(state: Path, name: str, listening: list[socket.socket]) -> None:
    """Closes the sockets and removes the files."""
    for one in listening:
        one.close()
    for ending in ("json", "sock"):
        (state / f"{name}.{ending}").unlink(missing_ok=True)
