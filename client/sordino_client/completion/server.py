"""The endpoint's process: sockets, token, the file by which editors find it, and a loop that sleeps.

STATE/serving/          bundles (see bundle.py); the agent writes them
STATE/token, STATE/completion.json, STATE/completion.sock   how editors reach it (see sordino_client.loopback)
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from sordino_client import loopback
from sordino_client.completion.api import app
from sordino_client.completion.cache import Precision
from sordino_client.completion.engine import Engine, return_memory
from sordino_client.completion.memory.recall import Memory
from sordino_client.completion.memory.upkeep import Upkeep
from sordino_client.completion.statistics import Statistics
from sordino_platform import durable, telemetry
from sordino_platform.web.server import Server
from sordino_privacy.errors import PortInUseError

Layers = Literal["both", "model", "memory"]
NAME = "completion"
POLL_SECONDS = 5.0


def serve(
    state: Path,
    *,
    port: int = 0,
    repositories: Sequence[Path] = (),
    precision: Precision = "int8",
    layers: Layers = "both",
) -> None:
    """Serves until SIGTERM or SIGINT; remembers `repositories`. Raises SordinoError where it cannot begin.

    `layers` other than both is for measuring: the model alone, or the memory alone.
    """
    durable.make_folder(state)
    with _only_one(state):
        token = loopback.read_token(state)
        upkeep = Upkeep(state, repositories)
        memory = Memory(upkeep.store, alone=layers == "memory")
        engine = Engine(state / "serving", recall=None if layers == "model" else memory, precision=precision)
        statistics = Statistics(state / "statistics.json")
        sockets = loopback.listen(state, NAME, port)
        try:
            asyncio.run(_run(engine, upkeep, statistics, state, sockets, token))
        finally:
            engine.close()
            statistics.save()
            loopback.close(state, NAME, sockets)


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
    server = Server(app.build(engine, upkeep, statistics, token=token))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.end)

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
    port = loopback.announce(state, NAME, sockets)
    telemetry.log().info("completion_endpoint_up", port=port, pid=os.getpid())
    try:
        await serving
    finally:
        watching.cancel()
        await upkeep.close()
