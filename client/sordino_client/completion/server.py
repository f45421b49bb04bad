"""The endpoint's process: sockets, token, the file by which editors find it, and a loop that sleeps.

STATE/serving/          bundles (see bundle.py); the agent writes them
STATE/token             the bearer token, 0600, made on the first start
STATE/completion.json   {"port", "pid", "socket"}: where it listens; gone when it has ended
STATE/completion.sock   the same endpoint as a Unix socket, 0600
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from sordino_client.completion.api import app
from sordino_client.completion.cache import Precision
from sordino_client.completion.engine import Engine, return_memory
from sordino_client.completion.memory.recall import Memory
from sordino_client.completion.memory.upkeep import Upkeep
from sordino_client.completion.statistics import Statistics
from sordino_platform import durable, telemetry
from sordino_privacy.errors import ConfigurationError, PortInUseError, StorageError

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 5.0
BACKLOG = 128
MAX_UNIX_PATH = 107


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


def listen(state: Path, port: int) -> list[socket.socket]:
    """The bound loopback socket and, where the folder's name is short enough for one, the Unix socket.

    Raises PortInUseError or StorageError.
    """
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        tcp.bind((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        tcp.close()
        raise PortInUseError(
            f"port {port} on this machine cannot be used", hint="choose another port, or 0 for any free one"
        ) from error
    path = state / "completion.sock"
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        return [tcp]
    local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)  # the socket must never exist with a wider mode, not even for a moment
    try:
        path.unlink(missing_ok=True)
        local.bind(str(path))
    except OSError as error:
        tcp.close()
        local.close()
        raise StorageError("the Unix socket cannot be made", hint=f"look at {state}") from error
    finally:
        os.umask(previous)
    return [tcp, local]


class _Server(uvicorn.Server):
    """uvicorn without its ten wake-ups a second: an idle endpoint uses no processor time."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    async def main_loop(self) -> None:
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `_run`'s, which cleans up; uvicorn would raise them again and end the process first."""
        yield

    def end(self) -> None:
        """Stops serving."""
        self.should_exit = True
        self._ended.set()


def serve(
    state: Path, *, port: int = 0, repositories: Sequence[Path] = (), precision: Precision = "int8"
) -> None:
    """Serves until SIGTERM or SIGINT; remembers `repositories`. Raises SordinoError where it cannot begin."""
    durable.make_folder(state)
    with _only_one(state):
        token = read_token(state)
        upkeep = Upkeep(state, repositories)
        engine = Engine(state / "serving", recall=Memory(upkeep.store), precision=precision)
        statistics = Statistics(state / "statistics.json")
        sockets = listen(state, port)
        try:
            asyncio.run(_run(engine, upkeep, statistics, state, sockets, token))
        finally:
            engine.close()
            statistics.save()
            for one in sockets:
                one.close()
            for name in ("completion.json", "completion.sock"):
                (state / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """One endpoint per folder: the kernel lets go of the lock when the process ends, however it ends."""
    descriptor = os.open(state / "completion.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise PortInUseError(
            "a completion endpoint already runs for this folder", hint=f"stop it, or use it: {state}"
        ) from error
    finally:
        os.close(descriptor)


async def _run(
    engine: Engine,
    upkeep: Upkeep,
    statistics: Statistics,
    state: Path,
    sockets: list[socket.socket],
    token: str,
) -> None:
    config = uvicorn.Config(
        app.build(engine, upkeep, statistics, token=token),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="error",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.end)
    tcp, *local = sockets
    port = tcp.getsockname()[1]
    document = {
        "port": port,
        "pid": os.getpid(),
        "socket": local[0].getsockname() if local else None,
    }

    async def watch() -> None:
        answered = 0
        while True:
            engine.refresh()
            if engine.answered != answered and not engine.in_flight:
                answered = engine.answered
                return_memory()
            await upkeep.look(engine.answered)
            await asyncio.to_thread(statistics.save)
            await asyncio.sleep(POLL_SECONDS)

    serving = asyncio.create_task(server.serve(sockets))
    watching = asyncio.create_task(watch())
    durable.write_file(state / "completion.json", json.dumps(document).encode(), secret=True)
    telemetry.log().info("completion_endpoint_up", port=port, pid=os.getpid())
    try:
        await serving
    finally:
        watching.cancel()
        await upkeep.close()
