"""The control endpoint's thread in the agent.

FOLDER/control/   token, control.json, control.sock (see sordino_client.loopback)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from sordino_client import loopback
from sordino_client.control.api import MemberControl, control_app
from sordino_client.round.member import Member
from sordino_platform.durable import make_folder
from sordino_platform.link import LinkStatus
from sordino_platform.web.server import Server

NAME = "control"
START_SECONDS = 30.0
STEP_SECONDS = 0.01


class ControlServer:
    """Serves from `start` to `stop`, on a thread with an event loop of its own.

    Raises PortInUseError, ConfigurationError or StorageError when it cannot be made.
    """

    def __init__(self, member: Member, link: Callable[[], LinkStatus], withdrawn: Callable[[], None]) -> None:
        self._member, self._link, self._withdrawn = member, link, withdrawn
        self._folder = member.folder / NAME
        make_folder(self._folder)
        self._token = loopback.read_token(self._folder)
        self._sockets = loopback.listen(self._folder, NAME, member.settings.control_port)
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=NAME, daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()
        self._begun.wait(START_SECONDS)
        loopback.announce(self._folder, NAME, self._sockets)

    def stop(self) -> None:
        """Ends, and takes back the files by which editors find it."""
        self._member.participation.changed = lambda: None
        if self._loop is not None and self._server is not None:
            self._server.end()
            self._thread.join(START_SECONDS)
        loopback.close(self._folder, NAME, self._sockets)

    async def _serve(self) -> None:
        desk = MemberControl(self._member, self._link, self._withdrawn)
        self._server = Server(control_app(desk, token=self._token))
        self._loop = loop = asyncio.get_running_loop()

        def moved() -> None:
            # Wakes the requests that wait; later ones wait for the next change.
            before, desk.moved = desk.moved, asyncio.Event()
            before.set()

        def changed() -> None:
            loop.call_soon_threadsafe(moved)

        self._member.participation.changed = changed
        serving = asyncio.create_task(self._server.serve(self._sockets))
        while not self._server.started and not serving.done():
            await asyncio.sleep(STEP_SECONDS)  # no editor may find the endpoint before it listens
        self._begun.set()
        await serving
