"""The endpoint's process: sockets, token, the file by which editors find it, and a loop that sleeps.

STATE/serving/          bundles (see bundle.py); the agent writes them
STATE/token, STATE/completion.json, STATE/completion.sock   how editors reach it (see sordino_client.loopback)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from sordino_client import loopback
from sordino_client.completion.api import app
from sordino_client.completion.cache import Precision
from sordino_client.completion.engine import Engine
from sordino_client.completion.memory.recall import LocalMemory
from sordino_client.completion.memory.upkeep import Upkeep
from sordino_client.completion.showing.worth import Show
from sordino_client.completion.statistics import EndpointStatistics
from sordino_client.completion.taking.upkeep import Choosing
from sordino_platform import durable, telemetry
from sordino_platform.machine.endings import on_ending_in
from sordino_platform.machine.locks import Lock
from sordino_platform.machine.memory import return_freed
from sordino_platform.web.server import Server
from sordino_privacy.errors import PortInUseError

Layers = Literal["both", "model", "memory"]
# Called when the endpoint's state changes, with a word for programs and a sentence for people.
Told = Callable[[str, str], None]
NAME = "completion"
POLL_SECONDS = 5.0
BEGIN_SECONDS = 0.5
LOCK_STEP_SECONDS = 0.1
STEP_SECONDS = 0.01


def serve(
    state: Path,
    *,
    port: int = 0,
    repositories: Sequence[Path] = (),
    precision: Precision = "int8",
    layers: Layers = "both",
    patience: float = 0.0,
    told: Told = lambda *_: None,
    left: Callable[[], bool] = lambda: False,
    show: Show = "balanced",
    heldout_share: float | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, or until `left` says that another endpoint takes this folder; remembers
    `repositories`.

    If an endpoint still runs there, waits up to `patience` seconds for its end. Raises SordinoError if it cannot begin.

    `show` is how sure a text must be to be shown, where a request does not say. `layers` other than both is for
    measuring: the model alone, or the memory alone. `heldout_share` of a member's repositories is held out of its
    training; these files decide what is taken of the federation (taking/).
    """
    durable.make_folder(state)
    with _only_one(state, patience):
        token = loopback.read_token(state)
        upkeep = Upkeep(state, repositories)
        memory = LocalMemory(upkeep.store, alone=layers == "memory")
        engine = Engine(
            state / "serving", recall=None if layers == "model" else memory, precision=precision, show=show
        )
        choosing = Choosing(state, repositories, heldout_share=heldout_share)
        statistics = EndpointStatistics(state / "statistics.json")
        sockets = loopback.listen(state, NAME, port)
        try:
            asyncio.run(_run(engine, upkeep, choosing, statistics, state, sockets, token, told, left))
        finally:
            engine.close()
            statistics.save()
            loopback.close(state, NAME, sockets)


@contextlib.contextmanager
def _only_one(state: Path, patience: float) -> Iterator[None]:
    """One endpoint per folder: the kernel lets go of the lock when the process ends, however it ends."""
    deadline = time.monotonic() + patience
    with Lock(state / "completion.lock") as lock:
        while not lock.try_take():
            if time.monotonic() >= deadline:
                raise PortInUseError(
                    "a completion endpoint already runs for this folder", hint=f"stop it, or use it: {state}"
                )
            time.sleep(LOCK_STEP_SECONDS)
        yield


async def _run(
    engine: Engine,
    upkeep: Upkeep,
    choosing: Choosing,
    statistics: EndpointStatistics,
    state: Path,
    sockets: list[socket.socket],
    token: str,
    told: Told,
    left: Callable[[], bool],
) -> None:
    server = Server(app.build(engine, upkeep, statistics, token=token))
    on_ending_in(asyncio.get_running_loop(), server.end)

    async def watch() -> None:
        answered = 0
        while True:
            if left():
                server.end()
                return
            engine.refresh()
            if engine.answered != answered and not engine.in_flight:
                answered = engine.answered
                return_freed()
            await upkeep.look(engine.answered)
            if not upkeep.building and engine.state[0] == "ready":
                await choosing.look()
            await asyncio.to_thread(statistics.save)
            told("memory", _remembered(upkeep))
            told("engine", engine.state[1])
            starting = upkeep.building or engine.state[0] == "loading"
            await asyncio.sleep(BEGIN_SECONDS if starting else POLL_SECONDS)

    serving = asyncio.create_task(server.serve(sockets))
    while not server.started and not serving.done():
        await asyncio.sleep(STEP_SECONDS)  # no editor may find the endpoint before it listens
    watching = asyncio.create_task(watch())
    port = loopback.announce(state, NAME, sockets)
    telemetry.log().info("completion_endpoint_up", port=port, pid=os.getpid())
    told("serving", f"http://{loopback.LOOPBACK}:{port}")
    try:
        await serving
    finally:
        watching.cancel()
        await upkeep.close()
        await choosing.close()


def _remembered(upkeep: Upkeep) -> str:
    """What the memory holds, in words."""
    if upkeep.building:
        return "reading your folders"
    status = upkeep.store.status()
    return f"{status.files:,} files, {status.tokens:,} tokens, {status.bytes / 1e6:.1f} MB"
