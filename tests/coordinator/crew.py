"""Members of a real coordinator process: their links, folders and ClientApp are real, over TLS; only training is not.

Before a member answers TRAIN, a finished update is put where training would leave it, so that a round takes a second.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from flwr.app import Context

from sordino_client.round.addressee import MEMBER
from sordino_client.round.app import app
from sordino_client.round.member import Member
from sordino_platform.charter import SignedCharter
from sordino_platform.durable import make_folder, write_file
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import Fields, Phase, node_id
from sordino_platform.link import ClientTls, LinkClient, Payload, Request
from sordino_platform.machine.processes import start_bound
from sordino_platform.proposal import Proposal, quantiser_for
from sordino_privacy.errors import LinkError
from sordino_privacy.secagg import MaskedStatistics

START_SECONDS = 120.0


class Hub:
    """`sordino coordinator up` as a process that can be killed and started again on the same port."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self._log = folder, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Starts it and returns its address once it listens."""
        address = self.folder / "address"
        address.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-P",
            "-m",
            "sordino_platform.cli",
            "coordinator",
            "up",
            "-f",
            str(self.folder),
        ]
        with self._log.open("ab") as log:
            self._process = start_bound(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not address.exists():
            assert self._process.poll() is None, self._log.read_text()[-4000:]
            assert time.monotonic() < deadline, "the coordinator did not start"
            time.sleep(0.05)
        return address.read_text().strip()

    def kill(self) -> None:
        """SIGKILL, and waits until the kernel has let go of everything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit code."""
        assert self._process is not None
        code: int = self._process.wait(seconds)
        return code

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def events(self) -> list[dict[str, object]]:
        """Everything it logged, of all its lives."""
        path = self.folder / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def until(self, claim: Callable[[], bool], seconds: float = 120.0) -> None:
        """Waits for something that this coordinator is expected to bring about."""
        deadline = time.monotonic() + seconds
        while not claim():
            assert time.monotonic() < deadline, self._log.read_text()[-4000:]
            time.sleep(0.05)


class Crew:
    """All members of a founded federation, each on a link of its own. `on_message` is told phase and member first;
    `answers` (phase, member, true reply) says what is sent instead."""

    def __init__(self, place: Path, address: str) -> None:
        self.on_message: Callable[[str, str], object] = lambda phase, name: None
        self.answers: Callable[[str, str, Payload], Payload] = lambda phase, name, honest: honest
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()  # flwr's identity is one per process
        self.members: dict[str, Member] = {}
        self.refused: dict[str, LinkError] = {}  # members whose link ended for good, and why
        self._links: list[LinkClient] = []
        self._threads: list[threading.Thread] = []
        for folder in sorted((place / "members").iterdir()):
            member = self._stack.enter_context(Member.open(folder))
            self.members[member.name] = member
            link = LinkClient(
                address, tls=self._tls(member), handler=self._handler(member), software_version="1.0"
            )
            thread = threading.Thread(
                target=self._live, args=(member.name, link), name=f"member-{member.name}"
            )
            self._links.append(link)
            self._threads.append(thread)

    def __enter__(self) -> Crew:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for link in self._links:
            link.stop()
        for thread in self._threads:
            thread.join(30)
        self._stack.close()

    def _live(self, name: str, link: LinkClient) -> None:
        try:
            link.run()
        except LinkError as error:
            self.refused[name] = error

    @staticmethod
    def _tls(member: Member) -> Callable[[], ClientTls]:
        def tls() -> ClientTls:
            own = member.identity.tls()
            return ClientTls(
                key=own.private_key, certificate=own.certificate, ca=own.authority, issuers=own.issuers
            )

        return tls

    def _handler(self, member: Member) -> Callable[[Request], Payload | None]:
        contexts: dict[int, Context] = {}

        def answer(request: Request) -> Payload | None:
            message = decode_message(request.payload)
            run, me, kind = message.metadata.run_id, node_id(member.name), message.metadata.message_type
            self.on_message(kind, member.name)
            with self._lock:
                shim.identify(run=run, node=me)
                token = MEMBER.set(member)
                try:
                    if kind == Phase.TRAIN.message_type:
                        store_update(member, Proposal.parse(Fields(decode_message(request.payload))))
                    context = contexts.setdefault(run, shim.new_context(run=run, node=me, run_config={}))
                    return self.answers(kind, member.name, encode_message(app(message, context)))
                finally:
                    MEMBER.reset(token)

        return answer


def store_update(member: Member, proposal: Proposal) -> None:
    """A finished update of a constant, where training would leave it."""
    place = member.folder / "round" / f"{proposal.context.run}-{proposal.context.round}"
    if (place / "quantised.bin").exists():
        return
    members = len(member.charter.members)
    if proposal.charters:  # a new epoch, which the member takes over with this proposal
        members = len(SignedCharter.parse_unverified(proposal.charters[-1]).charter.members)
    quantiser = quantiser_for(member.config, proposal.plan, members=members)
    vector = np.full(quantiser.dimension, 0.0005, dtype=np.float32)
    make_folder(place)
    quantised = quantiser.quantise(vector, 1.0, MaskedStatistics(examples=8), secrets.token_bytes)
    write_file(place / "quantised.bin", quantised.encode(), secret=True)


@contextlib.contextmanager
def federation(place: Path, log: Path, **settings: object) -> Iterator[tuple[Hub, Crew]]:
    """A coordinator process and its members, connected. `settings` replace those of coordinator.toml."""
    path = place / "coordinator" / "coordinator.toml"
    lines = path.read_text().splitlines()
    head = lines[: lines.index("[plan]")]
    kept = [line for line in head if line.split(" = ")[0] not in settings]
    given = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    path.write_text("\n".join([*given, *kept, *lines[len(head) :]]) + "\n")
    path.chmod(0o600)
    hub = Hub(place / "coordinator", log)
    address = hub.start()
    settings_of_port = path.read_text().replace('listen = "127.0.0.1:0"\n', "")
    path.write_text(f'listen = "{address}"\n{settings_of_port}')  # the same port after a restart
    try:
        with Crew(place, address) as crew:
            yield hub, crew
    finally:
        if hub.running:
            hub.send(signal.SIGKILL)
            hub.wait()
