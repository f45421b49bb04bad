"""An agent whose privacy ledger refuses to open: it takes part in nothing, says why, and serves completions.

The ledger is not held, so that `sordino client ledger recover` can mend it beside the running agent; when it opens
again, the agent goes on by itself. Meanwhile the link is kept, and every offer is answered with the one reason.
"""

from __future__ import annotations

import threading
from importlib.metadata import version
from pathlib import Path

from flwr.app import Error, Message

from sordino_client.agent.completion_process import CompletionProcess
from sordino_client.agent.connection import Connection
from sordino_client.agent.renewing import Renewing
from sordino_client.ledger import LedgerHeldError, LedgerRefusesError
from sordino_client.ledger.machine import FILE as BUDGETS
from sordino_client.ledger.machine import machine_folder
from sordino_client.metrics import MemberMetrics
from sordino_client.round.member import Member
from sordino_client.round.refusal import LOCAL
from sordino_client.settings import load_member_settings
from sordino_client.status import said, write_status
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import HELLO, node_id, pack
from sordino_platform.identity import Identity
from sordino_platform.link import ClientTls, LinkClient, LinkState, LinkStatus, Payload, Request
from sordino_platform.machine.endings import on_ending
from sordino_platform.offer import OfferAnswer, Unready
from sordino_platform.release import ReleaseStore
from sordino_platform.telemetry import log
from sordino_platform.web.metrics import MetricsServer
from sordino_privacy.errors import LinkError, SordinoError

LOOK_SECONDS = 2.0
TRY_SECONDS = 300.0
REFUSED = 1
Marks = tuple[tuple[str, int], ...]


class Outside:
    """The time during which the agent takes part in no round. `run` blocks until the ledger opens, or a signal sets
    `stopping`."""

    def __init__(
        self,
        folder: Path,
        completion: CompletionProcess,
        stopping: threading.Event,
        refusal: LedgerRefusesError,
    ) -> None:
        self._folder, self._completion, self._stopping, self._refusal = folder, completion, stopping, refusal
        self._settings, self._identity = load_member_settings(folder), Identity.load(folder)
        self._releases = ReleaseStore(folder / "releases", self._identity.charters)
        self._over = threading.Event()
        self._status = LinkStatus(state=LinkState.CONNECTING)
        self._numbers = MemberMetrics()
        self._metrics = MetricsServer(
            self._numbers.metrics,
            port=self._settings.metrics_port,
            refused=lambda reason: self._numbers.http_rejected.labels(reason).inc(),
        )
        self._connection = Connection(folder, self._new_link, self._note)
        self._renewing = Renewing(self._identity, self._numbers, self._connection.ask_renewal)
        self._watcher = threading.Thread(target=self._watch, name="sordino-ledger", daemon=True)

    def run(self) -> None:
        """Raises nothing that the ledger raises."""
        log().error("ledger_refuses", error=self._refusal.message, hint=self._refusal.hint)
        on_ending(self._stop)
        self._completion.start()
        self._note(self._status)
        self._renewing.start()
        self._watcher.start()
        try:
            self._connection.run()
        finally:
            self._over.set()
            self._watcher.join()
            self._renewing.stop()
            self._metrics.stop()

    def _stop(self, told: str) -> None:
        log().info("stopping", member=self._settings.name, signal=told)
        self._stopping.set()
        self._over.set()
        self._connection.stop()

    def _watch(self) -> None:
        """Tries to open the ledger when one of its files has changed, and from time to time, since its disk may have
        been full."""
        tried: Marks | None = None
        waited, failed = 0.0, False
        while not self._over.wait(LOOK_SECONDS):
            waited += LOOK_SECONDS
            try:
                if self._changed() == tried and waited < TRY_SECONDS:
                    continue
                opens = self._opens()
                tried, failed = self._changed(), False  # opening it touches its files
            except LedgerHeldError:
                opens, tried = False, None  # it is being recovered
            except Exception as error:  # noqa: BLE001 - or nobody would look again, and the agent stay outside
                if not failed:  # once, not at every look
                    log().error("ledger_refuses", error=type(error).__name__, hint="it is tried again")
                opens, tried, failed = False, None, True
            if opens:
                log().info("ledger_opens", member=self._settings.name)
                self._connection.stop()
                return
            waited = 0.0

    def _opens(self) -> bool:
        """Whether the ledger opens, so that the agent may go on. If something else is wrong, the agent itself will say
        so. Raises LedgerHeldError."""
        try:
            with Member.open(self._folder):
                return True
        except LedgerHeldError:
            raise
        except LedgerRefusesError as refusal:
            self._refusal = refusal
            self._note(self._status)
            return False
        except SordinoError:
            return True

    def _changed(self) -> Marks:
        """The files that decide whether the ledger opens, and when each was last written."""
        machine = self._settings.budgets_folder or machine_folder()
        paths = [*sorted((self._folder / "ledger").glob("ledger.*")), machine / BUDGETS]
        return tuple((path.name, path.stat().st_mtime_ns) for path in paths if path.exists())

    def _new_link(self) -> LinkClient:
        return LinkClient(
            self._settings.coordinator,
            tls=self._tls,
            handler=self._answer,
            software_version=version("sordino"),
            on_status=self._note,
            on_renewed=lambda certificate: self._renewing.renewed(certificate),
        )

    def _tls(self) -> ClientTls:
        own = self._identity.tls()
        return ClientTls(
            key=own.private_key, certificate=own.certificate, ca=own.authority, issuers=own.issuers
        )

    def _answer(self, request: Request) -> Payload | None:
        """Answers every offer with the reason and refuses all other messages, without reading them."""
        message = decode_message(request.payload)
        me = node_id(self._settings.name)
        if message.metadata.dst_node_id != me:
            raise LinkError("the coordinator sent a message that is for another member")
        shim.identify(run=message.metadata.run_id, node=me)
        if message.metadata.message_type != HELLO:
            return encode_message(Message(Error(REFUSED, LOCAL), reply_to=message))
        present = OfferAnswer(
            member=self._settings.name,
            release=self._releases.newest_held(),
            epoch=self._identity.charter.epoch,
            unready=Unready.LEDGER,
            head=b"",
        )
        return encode_message(Message(pack(present.fields()), reply_to=message))

    def _note(self, status: LinkStatus) -> None:
        self._status = status
        self._numbers.connected.set(status.state is LinkState.CONNECTED)
        write_status(
            self._folder,
            member=self._settings.name,
            link=status,
            doing="idle",
            not_ready=Unready.LEDGER,
            release=self._releases.newest_held(),
            metrics_port=self._metrics.port,
            ledger=said(self._refusal),
        )
