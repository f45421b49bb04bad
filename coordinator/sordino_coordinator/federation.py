"""The federation as its coordinator holds it: charter, keys, releases, rounds, and what the process is told to do.

It is state, and the few operations that must be with it. Other modules work on it: `beginning` (before a round),
`gathering`, `attempt`, `releasing` (a sum becomes a release), `records` (what members are shown), `noted` (what members
said), `ending`.

<folder>/
  identity.key tls.pem charters/ …   the identity (sordino_platform.identity)
  coordinator.toml                   settings
  state.sqlite                       rounds, and what was seen of each member
  orders.json status.json audit/     what the operator asked for, what happens now, what was done (see control)
  releases/                          signed, hash-chained releases; 0 is the public base
  sums/                              opened sums, when `keep_opened_sums_for_a_proof` is set
  events.jsonl                       what happened, a line each
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from structlog.stdlib import BoundLogger

from sordino_coordinator.control.audit import Action, AuditLog
from sordino_coordinator.control.desk import OrderDesk
from sordino_coordinator.control.live import Doing, Live
from sordino_coordinator.gauges import show_charter, show_release
from sordino_coordinator.metrics import MESSAGE_PHASES, CoordinatorMetrics
from sordino_coordinator.patience import CatchUpPatience
from sordino_coordinator.records import TRANSCRIPT, ReleaseRecords
from sordino_coordinator.release_gate import ReleaseGate
from sordino_coordinator.rounds import RoundStore
from sordino_coordinator.settings import CoordinatorSettings, load_coordinator_settings
from sordino_coordinator.tenancy import Tenancy
from sordino_platform.architecture import Architecture, Parameters, Vector, flatten
from sordino_platform.charter import Charter, ended_by
from sordino_platform.durable import make_folder
from sordino_platform.founding_model import founding_parameters
from sordino_platform.identity import Identity
from sordino_platform.link import Direction
from sordino_platform.offer import Unready
from sordino_platform.plans import Plan
from sordino_platform.release import ReleaseStore
from sordino_platform.round_limits import RoundLimits
from sordino_platform.telemetry import log
from sordino_platform.tracing import UNTRACED, Traces, open_traces
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError, StorageError
from sordino_privacy.secagg import Membership
from sordino_privacy.signing import SignerError

NO_RUN_RELEASES = "founding"


@dataclass(slots=True, kw_only=True)
class Federation:
    """One coordinator's state for the life of its process. `run` is new at each start, so no context ever repeats."""

    folder: Path
    settings: CoordinatorSettings
    identity: Identity
    charter: Charter
    membership: Membership
    training: TrainingPlan
    config: Architecture
    parameters: Parameters
    releases: ReleaseStore
    rounds: RoundStore
    metrics: CoordinatorMetrics
    gate: ReleaseGate | None
    live: Live
    audit: AuditLog
    tenancy: Tenancy
    records: ReleaseRecords
    desk: OrderDesk = field(init=False)
    plan: Plan = field(init=False)
    run: str = field(default_factory=lambda: secrets.token_hex(16))
    loss: float | None = None
    log: BoundLogger = field(default_factory=log)
    traces: Traces = UNTRACED
    stopping: threading.Event = field(default_factory=threading.Event)
    stop_at: float = math.inf
    traffic: Counter[Direction] = field(default_factory=Counter)
    cheaters: set[str] = field(default_factory=set)
    unready: dict[str, Unready | None] = field(default_factory=dict)
    catch_up_patience: CatchUpPatience = field(default_factory=CatchUpPatience)

    @classmethod
    def open(cls, folder: Path) -> Federation:
        """Opens the folder, closes rounds that were cut short, and makes release 0 if there is none.

        Raises ConfigurationError, StorageError.
        """
        settings, identity = load_coordinator_settings(folder), Identity.load(folder)
        charter = identity.charter
        charter.require_current()
        tenancy = Tenancy(folder=folder, charters=identity.charters)
        tenancy.require_current()
        if identity.card.role != "coordinator":
            raise ConfigurationError(f"{folder} holds the identity of a member, not of a coordinator")
        plan, config = settings.plan.plan(), charter.model.config()
        parameters = founding_parameters(charter.model)
        RoundLimits.of(charter, parameters).require_step(plan, settings.server_optimiser)
        gate = ReleaseGate.open(settings, config, parameters)
        rounds = RoundStore(folder / "state.sqlite")
        live = Live(folder, version=version("sordino"))
        releases = ReleaseStore(folder / "releases", identity.charters)
        membership = charter.membership()
        metrics = CoordinatorMetrics(members=tuple(member.name for member in membership.members))
        federation = cls(
            folder=folder,
            settings=settings,
            identity=identity,
            charter=charter,
            membership=membership,
            training=plan,
            config=config,
            parameters=parameters,
            releases=releases,
            rounds=rounds,
            metrics=metrics,
            gate=gate,
            live=live,
            tenancy=tenancy,
            records=ReleaseRecords(folder=folder, releases=releases),
            audit=AuditLog(
                folder,
                key=identity.signing_key,
                on_append=lambda action: metrics.audit_events.labels(action.value).inc(),
            ),
        )
        federation.plan = plan
        federation.desk = OrderDesk(
            folder=folder, defaults=settings, live=live, audit=federation.audit, restore=federation.roll_back
        )
        metrics.paused.set_function(lambda: live.status.doing in (Doing.PAUSED, Doing.CLOSED))
        make_folder(folder / TRANSCRIPT)
        federation.recover()
        federation.show()
        return federation

    def recover(self) -> None:
        """Voids what a crash cut short: open rounds, and a release whose round was never committed."""
        cut = self.rounds.interrupted()
        founded = not self.releases.chain()
        if founded:
            vector = flatten(self.config, self.parameters)
            self.loss = self.evaluate(vector)
            self.releases.add(
                vector, key=self.identity.signing_key, run=NO_RUN_RELEASES, heldout_loss=self.loss
            )
        removed = self.releases.discard_after(self.rounds.committed_release() or 0)
        for record in (self.folder / TRANSCRIPT).glob("*.bin"):
            if int(record.stem) > self.releases.head().number:
                record.unlink()  # of a release that was never committed
        if cut or removed:
            self.audit.append(Action.RECOVERED, f"{cut} round(s) cut short, {removed} release(s) removed")
            self.log.warning(
                "recovered", count=cut, release=self.releases.head().number, reason="stopped in a round"
            )
        if not founded:
            self.loss = self.evaluate(self.weights())  # again: the held-out code may be another now
            if self.gate is not None and self.loss is not None and self.gate.lowest is not None:
                self.gate.lowest = min(self.gate.lowest, self.loss)

    def note(self, write: Callable[[], object]) -> None:
        """A context for a write that is only a note.

        A full disk, or a signing token that was taken out, must not make this process refuse a member or keep it from
        ending. What a round must record is written by the round itself, which stops when that fails.
        """
        try:
            write()
        except SignerError as error:
            self.log.error("not_noted", error=error.message)
        except StorageError as error:
            self.metrics.write_errors.inc()
            self.log.error("not_noted", error=error.message)

    def count_bytes(self, direction: Direction, message_type: str, count: int) -> None:
        """Counts a message by its phase, and for the round that runs."""
        self.traffic[direction] += count
        self.metrics.bytes.labels(direction.value, MESSAGE_PHASES[message_type]).inc(count)

    def stop(self) -> None:
        """Lets no further round begin.

        The one that runs has `drain_seconds` to end; a second call gives it up. It takes no lock, because a signal
        handler calls it at any point of the program.
        """
        self.stop_at = time.monotonic() + (0.0 if self.stopping.is_set() else self.settings.drain_seconds)
        self.stopping.set()

    def gives_up(self) -> bool:
        """Whether the round that runs must end now."""
        return time.monotonic() >= self.stop_at

    def trace(self) -> None:
        """Traces go where the settings say from now on. Raises ConfigurationError, LinkError, StorageError."""
        self.traces = open_traces(
            self.settings.traces,
            authority=self.settings.traces_authority,
            federation=self.charter.federation,
            role="coordinator",
            name=self.identity.card.name,
        )

    def roll_back(self, number: int) -> None:
        """Makes a release with the model of an older one. Raises ConfigurationError, StorageError."""
        # A new run: within one run, each sum starts from the model that the sum before it made.
        run = secrets.token_hex(16)
        manifest = self.releases.rollback(number, key=self.identity.signing_key, run=run)
        self.run, self.loss = run, self.evaluate(self.weights())
        self.audit.append(Action.ROLLED_BACK, f"release {manifest.number} restores release {number}")
        self.log.info("rolled_back", release=manifest.number, loss=self.loss)
        self.show()

    def show(self) -> None:
        """Sets the gauges that describe the state."""
        show_charter(self.metrics, self.charter, self.rounds.members())
        show_release(self.metrics, self.releases, self.loss)
        self.metrics.delta.set(self.plan.delta)
        self.metrics.expiry.labels("coordinator").set(self.identity.tls().expires_at.timestamp())

    def superseded(self) -> bool:
        """Whether a newer epoch of the charter lies in the folder than the one that the round is held under."""
        return self.identity.charter.hash() != self.charter.hash()

    def ended_by(self, members: Collection[str]) -> str | None:
        """Why a newer epoch ends a round of these members. None if there is no newer epoch, or if it leaves them as
        they are."""
        return ended_by(self.charter, self.identity.charter, members)

    def quorum(self) -> int:
        """The fewest members that a round begins with: the charter's smallest cohort, or more if the operator says
        so."""
        return max(self.settings.quorum, self.membership.floors.cohort, self.tenancy.fewest(self.membership))

    def tenure(self) -> bytes:
        """The signed tenure of this machine as the coordinator, for an offer; empty on a federation's first machine."""
        own = self.tenancy.own()
        return b"" if own is None else own.to_bytes()

    def hand_over(self, data: bytes) -> None:
        """Another machine takes over, with a tenure that this coordinator's key signed: no further round begins, and
        the one that runs is given up. Raises ConfigurationError, StorageError."""
        tenure = self.tenancy.parse(data)
        if not self.tenancy.note(data):
            raise ConfigurationError(
                f"generation {tenure.tenure.generation} does not follow the one of this coordinator",
                hint="let the standby follow once more, then take over",
            )
        self.audit.append(Action.HANDED_OVER, f"generation {tenure.tenure.generation}", by="api")
        self.stop()
        self.stop()  # the second call gives the running round up

    def weights(self) -> Vector:
        """The newest release's vector."""
        return self.releases.vector()

    def model_hash(self) -> bytes:
        """What the context of a round names as its model."""
        return bytes(self.releases.head().vector_hash)

    def epochs(self, *, after: int) -> tuple[bytes, ...]:
        """The signed charters up to this round's that a member whose newest epoch is `after` lacks."""
        chain = self.identity.charters.chain()
        return tuple(
            signed.to_bytes() for signed in chain if after < signed.charter.epoch <= self.charter.epoch
        )

    def evaluate(self, vector: Vector) -> float | None:
        """Held-out loss of the model with this vector, nats per token; None where no held-out code is configured."""
        return None if self.gate is None else self.gate.loss(vector)
