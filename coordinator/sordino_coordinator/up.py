"""`sordino coordinator up`: one process that listens, runs rounds, and drains on SIGTERM."""

from __future__ import annotations

import datetime
import math
import os
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from sordino_coordinator.app import FEDERATION, app
from sordino_coordinator.clerk import Clerk
from sordino_coordinator.console import Console
from sordino_coordinator.control.api import Endpoints
from sordino_coordinator.control.audit import Action
from sordino_coordinator.control.copying import forget_copies
from sordino_coordinator.control.live import Doing
from sordino_coordinator.control.server import ApiServer
from sordino_coordinator.federation import Federation
from sordino_coordinator.folder_lock import take_lock
from sordino_coordinator.grid import LinkGrid
from sordino_coordinator.metrics import CoordinatorMetrics
from sordino_platform.durable import write_file
from sordino_platform.flower import shim
from sordino_platform.identity import admit
from sordino_platform.link import (
    Direction,
    Disconnection,
    IgnoreEvents,
    Limits,
    LinkServer,
    Rejection,
    ServerTls,
)
from sordino_platform.link.tls import expiry_of
from sordino_platform.machine.endings import on_ending
from sordino_platform.machine.processes import many_files
from sordino_platform.telemetry import configure_logging, log
from sordino_platform.web.metrics import MetricsServer
from sordino_privacy.errors import LinkError

ADDRESS_FILE = "address"
NOTED_SECONDS = 10.0


class CountedEvents(IgnoreEvents):
    """The link's events as metrics and log lines."""

    def __init__(self, metrics: CoordinatorMetrics) -> None:
        self._metrics = metrics
        self.totals = dict.fromkeys(Direction, 0)

    def connected(self, member: str) -> None:
        log().info("member_connected", member=member)

    def disconnected(self, member: str, reason: Disconnection) -> None:
        log().info("member_disconnected", member=member, reason=reason.value)

    def rejected(self, reason: Rejection) -> None:
        self._metrics.rejected.labels(reason.value).inc()

    def bytes(self, direction: Direction, count: int) -> None:
        self.totals[direction] += count


def run_coordinator(folder: Path, *, console_at: str | None = None) -> None:
    """Runs until all rounds that were asked for have completed, or SIGTERM or SIGINT arrives: then a round in flight
    is drained.

    Raises ConfigurationError, PortInUseError, LinkError, StorageError.
    """
    os.umask(0o077)
    many_files()  # a connection and a large reply for each member
    configure_logging(folder / "events.jsonl")
    lock = take_lock(folder)
    forget_copies(folder)
    federation = Federation.open(folder)
    if console_at is not None:
        federation.settings = federation.settings.with_console(console_at)
    federation.trace()
    identity, charters = federation.identity, federation.identity.charters

    def stop(told: str) -> None:
        log().info("stopping", signal=told)
        federation.stop()

    on_ending(stop)
    certificates: dict[str, bytes] = {}
    noted: dict[bytes, float] = {}
    refused: set[str] = set()  # each is noted once: one that comes back every second must not fill the disk

    def admitted(certificate: bytes) -> tuple[str, str]:
        try:
            return admit(certificate, charters.head().charter)
        except LinkError as error:
            if error.message not in refused:
                refused.add(error.message)
                said = error.message
                federation.note(lambda: federation.audit.append(Action.MEMBER_REFUSED, said))
            raise

    def identify(certificate: bytes) -> str:
        role, name = admitted(certificate)
        if role != "member":
            raise LinkError("only members connect to a coordinator")
        certificates[name] = certificate
        # Each of these is a write to the disk: a member that connects again and again must not keep the link's thread
        # busy with them.
        if time.monotonic() - noted.get(certificate, -math.inf) >= NOTED_SECONDS:
            noted[certificate] = time.monotonic()
            ends = expiry_of(certificate).timestamp()
            federation.note(lambda: federation.rounds.note_member(name, certificate_expires=ends))
        return name

    def still(member: str) -> None:
        if member in certificates:
            admitted(certificates[member])

    def tls() -> ServerTls:
        credentials = identity.tls()
        return ServerTls(
            key=credentials.private_key, certificate=credentials.certificate, ca=credentials.authority
        )

    events = CountedEvents(federation.metrics)
    clerk = Clerk(identity, federation.metrics)
    metrics = MetricsServer(
        federation.metrics.metrics,
        port=federation.settings.metrics_port,
        refused=lambda reason: federation.metrics.console_refused.labels(reason).inc(),
    )
    server = LinkServer(
        federation.settings.listen,
        tls=tls,
        identify=identify,
        admit=still,
        software_version=version("sordino"),
        events=events,
        spool=folder,
        now=lambda: datetime.datetime.now(datetime.UTC),
        renew=clerk.renew,
        limits=link_limits(len(federation.charter.members)),
    )
    server.start()

    def connected() -> int:
        return len(server.connected() & {member.name for member in charters.head().charter.members})

    # Computed at each scrape, in a round and in a pause too. Retired members do not count.
    federation.metrics.connected.set_function(connected)
    clerk.start()
    host = federation.settings.listen.rpartition(":")[0]
    api = operator_api(federation)
    federation.live.update(api_port=api.port if api else None)
    federation.audit.append(Action.STARTED, f"sordino {version('sordino')}, epoch {federation.charter.epoch}")
    write_file(folder / ADDRESS_FILE, f"{host}:{server.port}\n".encode())
    log().info("listening", address=host, port=server.port, pid=os.getpid(), version=version("sordino"))
    log().info("metrics", port=metrics.port)
    console = Console(federation) if federation.settings.console else None
    log().info("model", release=federation.releases.head().number, loss=federation.loss)
    run = int(federation.run[:15], 16)
    try:
        shim.identify(run=run, node=shim.COORDINATOR_NODE)
        FEDERATION.set(federation)
        app(
            LinkGrid(server, run=run, count=federation.count_bytes),
            shim.new_context(run=run, node=shim.COORDINATOR_NODE, run_config={}),
        )
    finally:
        federation.live.update(doing=Doing.STOPPING)
        if console is not None:
            console.stop()
        server.stop()
        clerk.stop()
        metrics.stop()
        if api is not None:
            api.stop()
        newest = federation.releases.head().number
        federation.note(lambda: federation.audit.append(Action.STOPPED, f"release {newest}"))
        federation.live.update(doing=Doing.STOPPED)
        federation.traces.close()
        federation.rounds.close()
        lock.close()
        traffic = {direction.value: total for direction, total in events.totals.items()}
        log().info("stopped", release=newest, **traffic)


def link_limits(members: int) -> Limits:
    """The link's limits for so many members: beside the room that strangers may fill, two connections for each of them.
    One whose member has gone may not have been noticed yet when that member is back."""
    room = Limits()
    return replace(room, connections=room.connections + 2 * members)


def operator_api(federation: Federation) -> ApiServer | None:
    """The operator's API where the settings ask for one. Raises PortInUseError, ConfigurationError."""
    address = federation.settings.api_listen
    if not address:
        return None
    endpoints = Endpoints(
        folder=federation.folder,
        defaults=federation.desk.defaults,
        audit=federation.audit,
        hand_over=federation.hand_over,
    )
    api = ApiServer(
        address,
        endpoints,
        on_request=lambda outcome: federation.metrics.operator_requests.labels(outcome).inc(),
    )
    log().info("api", port=api.port)
    return api
