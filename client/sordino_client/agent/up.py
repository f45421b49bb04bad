"""`sordino client up`: the long-lived process of a member. It holds the link and the ledger, and two children.

    agent ── trainer child        torch, one thread, nice 19; only while the agent lives
          └─ completion server    the released model and the local memory; a loopback port; no way to the link

A thread serves the member's own controls (sordino_client.control). The agent imports no torch. Its death takes its
children with it. While the ledger refuses to open, sordino_client.agent.outside stands in its place: completions go on.
"""

from __future__ import annotations

import os
import threading
from importlib.metadata import version
from pathlib import Path

from flwr.app import Context

from sordino_client.agent.completion_process import CompletionProcess
from sordino_client.agent.connection import Connection
from sordino_client.agent.outside import Outside
from sordino_client.agent.renewing import Renewing
from sordino_client.control.server import ControlServer
from sordino_client.ledger import LedgerRefusesError
from sordino_client.round.addressee import MEMBER
from sordino_client.round.app import app
from sordino_client.round.heads import require_charged
from sordino_client.round.member import Member, refusing
from sordino_client.round.serving import serve
from sordino_client.settings import load_member_settings
from sordino_client.status import write_status
from sordino_client.training import TrainingProgress
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import STREAMED, node_id
from sordino_platform.link import ClientTls, LinkClient, LinkState, LinkStatus, Payload, Request, StreamedPart
from sordino_platform.machine.endings import on_ending
from sordino_platform.offer import Unready
from sordino_platform.telemetry import configure_logging, log
from sordino_platform.web.metrics import MetricsServer
from sordino_privacy.errors import LinkError


class Agent:
    """One member's process. `run` blocks until SIGTERM or SIGINT: a refused link waits, and completions go on."""

    def __init__(self, member: Member, completion: CompletionProcess, stopping: threading.Event) -> None:
        self._member, self._completion, self._asked_to_stop = member, completion, stopping
        self._contexts: dict[int, Context] = {}
        self._status = LinkStatus(state=LinkState.CONNECTING)
        self._refusal: LedgerRefusesError | None = None
        self._metrics = MetricsServer(
            member.metrics.metrics,
            port=member.settings.metrics_port,
            refused=lambda reason: member.metrics.http_rejected.labels(reason).inc(),
        )
        self._control = ControlServer(member, lambda: self._status, self._end_training)
        self._stopping = threading.Event()
        self._connection = Connection(member.folder, self._new_link, self._note)
        self._renewing = Renewing(member.identity, member.metrics, self._connection.ask_renewal)

    def _new_link(self) -> LinkClient:
        return LinkClient(
            self._member.settings.coordinator,
            tls=self._tls,
            handler=self._answer,
            software_version=version("sordino"),
            on_status=self._note,
            on_renewed=lambda certificate: self._renewing.renewed(certificate),
        )

    def run(self) -> None:
        """Prepares, serves completions, connects. Raises DataError, PortInUseError, and LedgerRefusesError once the
        ledger is known not to be whole: its lock is released, so that it can be recovered."""
        member = self._member
        serve(member)
        member.on_progress = self._trained
        self._control.start()
        self._completion.start()
        member.worker.warm()
        on_ending(self._stop)
        log().info("agent_up", member=member.name, pid=os.getpid(), port=self._metrics.port)
        self._renewing.start()
        try:
            self._connection.run()
        finally:
            self._stopping.set()
            self._renewing.stop()
            self._control.stop()
            self._metrics.stop()
        if self._refusal is not None and not self._asked_to_stop.is_set():
            raise self._refusal

    def _stop(self, told: str) -> None:
        log().info("stopping", member=self._member.name, signal=told)
        self._asked_to_stop.set()
        self._connection.stop()

    def _tls(self) -> ClientTls:
        """Read again at each connection, so that a renewed certificate needs no restart."""
        credentials = self._member.identity.tls()
        self._member.metrics.expiry.set(credentials.expires_at.timestamp())
        return ClientTls(
            key=credentials.private_key,
            certificate=credentials.certificate,
            ca=credentials.authority,
            issuers=credentials.issuers,
        )

    def _answer(self, request: Request) -> Payload | None:
        """One message of the coordinator, through the ClientApp, on the link's handler thread."""
        message = decode_message(request.payload)
        run, me = message.metadata.run_id, node_id(self._member.name)
        if message.metadata.dst_node_id != me:
            raise LinkError("the coordinator sent a message that is for another member")
        shim.identify(run=run, node=me)
        MEMBER.set(self._member)
        if run not in self._contexts:
            # A run is the life of one coordinator process: what is kept of an older one can never be used again.
            self._contexts = {run: shim.new_context(run=run, node=me, run_config={})}
        self._write_status(message.metadata.message_type)
        streamed: dict[str, StreamedPart] = {}
        STREAMED.set(streamed)
        kind, _, phase = message.metadata.message_type.partition(".")
        if kind == "train" and message.metadata.group_id.isdecimal():
            entry = self._member.participation.entered(phase, int(message.metadata.group_id))
            # Training is long: one that nobody waits for any more is ended at once, so that the next message can be
            # answered.
            request.when_given_up(lambda: self._abandon(entry))
        reply = app(message, self._contexts[run])
        self._write_status("idle")
        self._end_without_ledger()
        return encode_message(reply, streamed)

    def _end_without_ledger(self) -> None:
        """Ends `run` if a witness saw more of the ledger than it holds."""
        member = self._member
        try:
            with refusing():
                member.ledger.require_whole()
                if member.participation.unready is Unready.LEDGER:
                    require_charged(member)
        except LedgerRefusesError as refusal:
            self._refusal = refusal
            self._connection.stop()

    def _note(self, status: LinkStatus) -> None:
        """Tells the person what the link does, and writes it where `sordino client status` finds it."""
        changed = (status.state, status.message) != (self._status.state, self._status.message)
        self._status = status
        self._member.metrics.connected.set(status.state is LinkState.CONNECTED)
        if status.state is not LinkState.CONNECTED:
            self._member.participation.offered(None)
        if changed:
            self._member.participation.touch()
        self._write_status("idle")
        if changed and status.state is not LinkState.CONNECTING:
            log().info("link", state=status.state.value, error=status.message, hint=status.hint)

    def _write_status(self, doing: str) -> None:
        member = self._member
        write_status(
            member.folder,
            member=member.name,
            link=self._status,
            doing=doing,
            not_ready=member.participation.unready or "",
            release=member.newest_release(),
            metrics_port=self._metrics.port,
        )

    def _trained(self, progress: TrainingProgress) -> None:
        self._member.participation.trained(progress.step, progress.steps, progress.seconds_left)

    def _abandon(self, entry: int) -> None:
        """The coordinator no longer waits for that phase."""
        if self._member.participation.abandon(entry):
            self._end_training()

    def _end_training(self) -> None:
        """The member withdrew: the trainer ends at once, and the round goes on without this member."""
        if self._member.participation.activity.phase == "train":
            self._member.worker.close()


def run_agent(folder: Path) -> None:
    """Runs the member in `folder`. Raises what opening and running it raise, except for a ledger that refuses to
    open."""
    os.umask(0o077)
    configure_logging(folder / "events.jsonl")
    completion, stopping, begun = (
        CompletionProcess(folder, load_member_settings(folder)),
        threading.Event(),
        False,
    )
    try:
        while not stopping.is_set():
            try:
                with Member.open(folder) as member:
                    if not begun:
                        member.prepared(
                            window=member.settings.window, refresh=True
                        )  # errors are reported at once
                    begun = True
                    Agent(member, completion, stopping).run()
            except LedgerRefusesError as refusal:
                begun = True
                Outside(folder, completion, stopping, refusal).run()
    finally:
        completion.end()
