"""The federation as its coordinator holds it: charter, keys, releases, rounds, and the checks before a release.

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
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from flwr.app import RecordDict
from structlog.stdlib import BoundLogger

from sordino_coordinator.control.audit import Action, AuditLog
from sordino_coordinator.control.desk import OrderDesk
from sordino_coordinator.control.live import Doing, Live
from sordino_coordinator.control.orders import read_orders
from sordino_coordinator.metrics import MESSAGE_PHASES, CoordinatorMetrics
from sordino_coordinator.next_release import NextRelease, release_of_counts, stepped
from sordino_coordinator.patience import CatchUpPatience
from sordino_coordinator.release_gate import ReleaseGate, UnusableSumError
from sordino_coordinator.rounds import RoundStore
from sordino_coordinator.settings import CoordinatorSettings, load_coordinator_settings
from sordino_coordinator.standby.tenancy import Tenancy
from sordino_platform.architecture import (
    Architecture,
    Parameters,
    Vector,
    flatten,
)
from sordino_platform.charter import Charter, ended_by
from sordino_platform.durable import make_folder, read_file, write_file
from sordino_platform.flower.phases import pack
from sordino_platform.founding_model import founding_parameters
from sordino_platform.identity import Identity, require_signs
from sordino_platform.ledger_head import SignedLedgerHead
from sordino_platform.link import Direction
from sordino_platform.offer import Unready
from sordino_platform.plans import Plan, parse_plan
from sordino_platform.provenance import UPLOAD, OpenedSum, Provenance, packed
from sordino_platform.release import ReleaseStore, vector_hash
from sordino_platform.release.optimiser import Moments
from sordino_platform.round_limits import RoundLimits
from sordino_platform.telemetry import log
from sordino_platform.tracing import UNTRACED, Traces, open_traces
from sordino_privacy.counts import CountPlan
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError, SordinoError, StorageError
from sordino_privacy.secagg import (
    GENESIS,
    AggregateSum,
    CoordinatorSession,
    Membership,
    Record,
    RoundContext,
    transcript_head,
)
from sordino_privacy.signing import SignerError

NO_RUN_RELEASES = "founding"
MAX_RECORD_BYTES = 256 << 20
PLAN, SUM, CARRIES, EVIDENCE = "plan.json", "sum.bin", "carries.bin", "evidence.bin"


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
        """Opens the folder, closes what was cut short, and makes release 0 where there is none.

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
        make_folder(folder / "transcript")
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
        for record in (self.folder / "transcript").glob("*.bin"):
            if int(record.stem) > self.releases.head().number:
                record.unlink()  # of a release that was never committed
        if cut or removed:
            self.audit.append(Action.RECOVERED, f"{cut} round(s) cut short, {removed} release(s) removed")
            self.log.warning(
                "recovered", count=cut, release=self.releases.head().number, reason="stopped in a round"
            )
        if not founded:
            self.loss = self.evaluate(self.weights())  # anew: what it is measured with may be another by now
            if self.gate is not None and self.loss is not None and self.gate.lowest is not None:
                self.gate.lowest = min(self.gate.lowest, self.loss)

    def note(self, write: Callable[[], object]) -> None:
        """A write that only notes something: a full disk, or a token that was taken out, must not refuse a member, or
        keep the process from ending.

        What a round must record is written by the round itself, which stops when it cannot.
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
        """No further round begins. The one that runs has `drain_seconds` to end; a second call gives it up.

        Called by a signal's handler, in the middle of whatever the process does: takes no lock.
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

    def begin(self) -> None:
        """Before each round: follows the operator's orders, and takes a new epoch of the charter over.

        Returns when a round may begin, or when the process is to stop. Raises ConfigurationError, StorageError,
        PolicyError (the plan or the server's step is beyond the charter).
        """
        self.desk.wait(self.stopping)
        self.settings = self.desk.settings()
        self.adopt()
        self.charter.require_current()
        require_signs(self.identity.signing_key)  # before members pay for a release that nobody could sign
        limits = RoundLimits.of(self.charter, self.parameters)
        limits.require_step(self.training, self.settings.server_optimiser)
        self.plan = self.next_plan(limits)
        self.show()

    def next_plan(self, limits: RoundLimits) -> Plan:
        """What the next round does: it counts, where that was ordered and no release has done it since, else it trains.
        An order that the charter or the settings do not allow is noted, and not tried again."""
        after = read_orders(self.folder).count_after
        if self.count_due():
            try:
                return self._count_plan(limits)
            except SordinoError as error:
                self.audit.append(Action.COUNT_FAILED, error.message[:1000])
                self.log.error("count_refused", error=error.message, hint=error.hint)
        if after is not None:
            self.desk.counted(after)
        return self.training

    def count_due(self) -> bool:
        """Whether a count was ordered that no release has made. Releases tell, so that a crash after one never lets it
        be made, and paid for, twice."""
        after = read_orders(self.folder).count_after
        return after is not None and not any(
            signed.manifest.counted for signed in self.releases.chain()[after + 1 :]
        )

    def _count_plan(self, limits: RoundLimits) -> CountPlan:
        """The plan of the ordered count, the same one until it is done. Raises ConfigurationError, PolicyError."""
        if self.settings.counts is None:
            raise ConfigurationError(
                "coordinator.toml has no [counts]", hint="`sordino coordinator count --help` shows one"
            )
        kept = self.plan.salt if isinstance(self.plan, CountPlan) else secrets.randbits(62)
        charter = self.charter
        plan = self.settings.counts.plan(
            salt=kept, fewest=charter.smallest_sum(), shares=charter.noise_shares()
        )
        limits.require_plan(plan)
        return plan

    def adopt(self) -> None:
        """Takes over the members, keys and floors of a new epoch; one that this process cannot serve is refused.

        Raises ConfigurationError for another model: its releases could not follow the present ones.
        """
        charter = self.identity.charter
        if charter.hash() == self.charter.hash():
            return
        try:
            if charter.model != self.charter.model:
                raise ConfigurationError(
                    f"epoch {charter.epoch} is for another model", hint="a new model is a new federation"
                )
            RoundLimits.of(charter, self.parameters).require_step(
                self.training, self.settings.server_optimiser
            )
        except SordinoError as error:
            self.audit.append(Action.EPOCH_REFUSED, f"epoch {charter.epoch}: {error.message}")
            raise
        self.charter, self.membership = charter, charter.membership()
        self.audit.append(Action.EPOCH_ADOPTED, f"epoch {charter.epoch} with {len(charter.members)} members")
        self.log.info("epoch_adopted", count=len(charter.members))

    def roll_back(self, number: int) -> None:
        """Makes a release with the model of an older one. Raises ConfigurationError, StorageError."""
        # A new run: within one run, each sum starts from the model that the sum before it made.
        run = secrets.token_hex(16)
        manifest = self.releases.rollback(number, key=self.identity.signing_key, run=run)
        self.run, self.loss = run, self.evaluate(self.weights())
        self.audit.append(Action.ROLLED_BACK, f"release {manifest.number} restores release {number}")
        self.log.info("rolled_back", release=manifest.number, loss=self.loss)
        self.show()

    def superseded(self) -> bool:
        """Whether a newer epoch of the charter lies in the folder than the one that the round is held under."""
        return self.identity.charter.hash() != self.charter.hash()

    def ended_by(self, members: Collection[str]) -> str | None:
        """Why a newer epoch ends a round of these members; None where there is none, or none of it touches them."""
        return ended_by(self.charter, self.identity.charter, members)

    def must_yield(self) -> bool:
        """Whether an order, a new epoch or a rollback must be followed before a round may begin."""
        ordered = read_orders(self.folder).restore is not None
        ordered = ordered or self.count_due() != isinstance(self.plan, CountPlan)
        return self.superseded() or ordered or self.desk.must_wait()

    def quorum(self) -> int:
        """The fewest members that a round begins with: the charter's smallest cohort, or more if the operator says
        so."""
        return max(self.settings.quorum, self.membership.floors.cohort, self.tenancy.fewest(self.membership))

    def tenure(self) -> bytes:
        """What an offer shows of this machine's time as the coordinator; empty on a federation's first machine."""
        own = self.tenancy.own()
        return b"" if own is None else own.to_bytes()

    def note_tenure(self, member: str, data: bytes) -> None:
        """Takes note of a tenure that a member holds. A later one ends this process's rounds: see `require_current`."""
        if data and self.tenancy.note(data):
            self.log.error("superseded", member=member)

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

    def show(self) -> None:
        """Sets the gauges that describe the state."""
        metrics, privacy = self.metrics, self.charter.privacy
        metrics.cohort_minimum.set(self.membership.floors.cohort)
        metrics.epsilon_budget.set(privacy.largest_epsilon)
        metrics.delta.set(self.plan.delta)
        self.show_members()
        metrics.enrolled.labels("revoked").set(len(self.charter.retired))
        metrics.model_version.set(self.releases.head().number)
        metrics.loss.set(self.loss or 0.0)
        memory = self.releases.shared_memory()
        metrics.phrases.set(0 if memory is None else memory.phrases)
        metrics.expiry.labels("coordinator").set(self.identity.tls().expires_at.timestamp())
        metrics.expiry.labels("ca").set(self.charter.tls_authority.x509().not_valid_after_utc.timestamp())

    def show_members(self) -> None:
        """Counts the charter's members by whether the certificate that was last seen of them still holds."""
        now, names = datetime.now(UTC).timestamp(), {member.name for member in self.membership.members}
        expired = sum(
            member.name in names and member.certificate_expires <= now for member in self.rounds.members()
        )
        self.metrics.enrolled.labels("active").set(len(names) - expired)
        self.metrics.enrolled.labels("expired").set(expired)

    def weights(self) -> Vector:
        """The newest release's vector."""
        return self.releases.vector()

    def model_hash(self) -> bytes:
        """What the context of a round names as its model."""
        return bytes(self.releases.head().vector_hash)

    def provenance(self, *, after: int, known: int = 0) -> Provenance | None:
        """What a member whose newest release is `after` (-1: it has none) needs to check the newest one; None where it
        holds that. Of the first `known` releases it holds the manifests. Raises StorageError.

        A release that an older version made has no kept sum: its manifest goes alone, and a member that lacks it can
        follow after the next round.
        """
        head = self.releases.head()
        if after >= head.number:
            return None
        # At least the newest comes along: a member checks what it is shown, and not what it may remember.
        numbers = range(min(max(after + 1, known, 0), head.number), head.number + 1)
        manifests = tuple(self.releases.manifest_bytes(number) for number in numbers)
        counted = self._counted(after=after)
        if head.restores is not None:
            restored, voucher = head.restores, self._record_that_began_with(head.vector_hash)
            if restored in (0, after) or voucher is None:
                return Provenance(manifests=manifests, counted=counted)
            return Provenance(
                manifests=manifests, model=self.releases.vector(restored), voucher=voucher, counted=counted
            )
        opened = self._opened(head.number)
        if head.round is None or opened is None:
            return Provenance(manifests=manifests, counted=counted)
        before = self.releases.manifest(head.number - 1)
        at_hand = after == before.number or before.number == 0
        model = None if at_hand else self.releases.vector(before.number)
        return Provenance(manifests=manifests, opened=opened, model=model, counted=counted)

    def _opened(self, number: int) -> OpenedSum | None:
        """How the round of a release made it; None where that is not kept. Raises StorageError."""
        kept, manifest = self.releases.opened(number), self.releases.manifest(number)
        if kept is None:
            return None
        record, before = self.record(number), self.releases.manifest(number - 1)
        quantiser = RoundContext.decode(Record.decode(record).context).quantiser
        steps = before.optimiser == manifest.optimiser and not manifest.counted
        return OpenedSum(
            record=record,
            plan=parse_plan(bytes(kept[PLAN])),
            sum=np.frombuffer(kept[SUM], dtype=quantiser.dtype),
            carries=np.frombuffer(kept[CARRIES], dtype=quantiser.carries),
            evidence=bytes(kept[EVIDENCE]),
            uploads={
                name.removeprefix(UPLOAD): data for name, data in kept.items() if name.startswith(UPLOAD)
            },
            moments=self.releases.moments(before.number) if steps else (),
        )

    def _counted(self, *, after: int) -> OpenedSum | None:
        """How the memory in force was counted, for a member whose newest release is `after`; None where that one has
        it, where the newest release counted it, or where it is not known any more."""
        head = self.releases.head()
        if head.shared_memory is None or head.counted:
            return None
        if after >= 0 and self.releases.manifest(after).shared_memory == head.shared_memory:
            return None
        return self._opened(head.shared_memory.release)

    def record(self, number: int) -> bytes:
        """The members' signed record of the round that made a release. Raises StorageError."""
        return read_file(self.transcript(number), limit=MAX_RECORD_BYTES)

    def transcript(self, number: int) -> Path:
        """Where that record is, if it was not lost with a restored backup."""
        return self.folder / "transcript" / f"{number:06d}.bin"

    def _record_that_began_with(self, vector_hash: bytes) -> bytes | None:
        """The newest record of a round whose members all began with the model of that hash."""
        chain = self.releases.chain()
        for signed in reversed(chain[1:]):
            manifest = signed.manifest
            began = manifest.round is not None and chain[manifest.number - 1].manifest.vector_hash
            if began == vector_hash and self.transcript(manifest.number).exists():
                return self.record(manifest.number)
        return None

    def epochs(self, *, after: int) -> tuple[bytes, ...]:
        """The signed charters up to this round's that a member whose newest epoch is `after` lacks."""
        chain = self.identity.charters.chain()
        return tuple(
            signed.to_bytes() for signed in chain if after < signed.charter.epoch <= self.charter.epoch
        )

    def evaluate(self, vector: Vector) -> float | None:
        """Held-out loss of the model with this vector, nats per token; None where no held-out code is configured."""
        return None if self.gate is None else self.gate.loss(vector)

    def commit(self, round: int, session: CoordinatorSession, opened: AggregateSum) -> int:
        """Checks the sum, writes the transcript, makes the next release.

        Raises UnusableSumError (the old model stays), StorageError.
        """
        if (why := self.ended_by(session.cohort)) is not None:
            raise UnusableSumError(f"{why}; the old model stays", of_members=False)
        made = self._made(opened)
        if self.settings.keep_opened_sums_for_a_proof:
            make_folder(self.folder / "sums")
            write_file(self.folder / "sums" / f"{round:06d}.bin", opened.vector.tobytes())
        record = session.record(self.releases.head().transcript_head or GENESIS, vector_hash(made.vector))
        write_file(self.transcript(self.releases.head().number + 1), record)
        manifest = self.releases.add(
            made.vector,
            key=self.identity.signing_key,
            run=self.run,
            round=round,
            members=opened.survivors,
            heldout_loss=made.loss,
            transcript_head=transcript_head(record),
            charter=self.charter,  # its members signed under this epoch, whatever began since
            optimiser=made.optimiser,
            moments=made.moments,
            opened={
                PLAN: self.plan.canonical(),
                SUM: opened.vector.data.cast("B"),
                CARRIES: opened.carries.data.cast("B"),
                EVIDENCE: opened.evidence,
                **{f"{UPLOAD}{name}": session.upload_of(name) for name in opened.silent},
            },
            counted=made.memory,
        )
        # All of it is in the published sum: the share of coordinates that met the end of the quantiser's range.
        saturated = opened.totals.saturated / (opened.totals.integers.size * len(opened.survivors))
        self.log.info(
            "release",
            round=round,
            release=manifest.number,
            loss=made.loss,
            loss_before=self.loss,
            norm=made.norm,
            saturated=saturated,
            phrases=None if made.memory is None else made.memory.phrases,
        )
        self.loss = made.loss
        self.releases.prune()
        self.metrics.model_version.set(manifest.number)
        self.metrics.loss.set(made.loss or 0.0)
        if made.memory is not None:
            self.metrics.phrases.set(made.memory.phrases)
        return manifest.number

    def _made(self, opened: AggregateSum) -> NextRelease:
        """What the sum makes, by the plan of its round. Raises UnusableSumError."""
        head, model = self.releases.head(), self.weights()
        if isinstance(self.plan, CountPlan):
            return release_of_counts(
                opened, self.plan, head=head, model=model, moments=self.releases.moments()
            )
        optimiser = self.settings.server_optimiser
        return stepped(
            opened, head=head, model=model, optimiser=optimiser, moments=self.moments(), gate=self.gate
        )

    def moments(self) -> Moments:
        """The optimiser's state that the next step begins with; none where another optimiser made the newest
        release."""
        same = self.releases.head().optimiser == self.settings.server_optimiser
        return self.releases.moments() if same else ()

    def announcement(self) -> RecordDict:
        """The RESULT message: the newest release, and how the round made it from the one before."""
        return pack(*packed(self.provenance(after=self.releases.head().number - 1), {}))

    def keep_head(self, member: str, data: bytes) -> None:
        """Keeps the head of a member's ledger that the member signed, to hand it back. One that is not is not kept."""
        if not data:
            return
        try:
            head = SignedLedgerHead.parse(
                data,
                federation=self.membership.federation,
                member=member,
                public_key=self.membership.member(member).public_key,
            ).head
        except ConfigurationError as error:
            self.log.warning("ledger_head_refused", member=member, error=error.message)
            return
        age = {"generation": head.generation, "sequence": head.sequence}
        self.note(lambda: self.rounds.keep_head(member, **age, head=data))

    def note_unready(self, member: str, reason: Unready | None) -> None:
        """Shows why a member takes no part; None: it does. Logged when it changes."""
        if self.unready.get(member) is reason and member in self.unready:
            return
        self.unready[member] = reason
        for label in Unready:
            self.metrics.unready.labels(label.value).set(Counter(self.unready.values())[label])
        self.note(lambda: self.rounds.note_unready(member, reason or ""))
        if reason is not None:
            self.log.warning("member_not_ready", member=member, reason=reason.value)

    def exclude(self, member: str, why: str, *, round: int, proof: bytes = b"") -> None:
        """Books a member that was proven to cheat: it is left out of every attempt until this process is started anew.

        `proof` is kept beside the transcript, for whoever wants to judge it (sordino_privacy.secagg.judge_complaint).
        """
        if member in self.cheaters:
            return
        self.cheaters.add(member)
        self.metrics.cheaters.set(len(self.cheaters))
        if proof:
            make_folder(self.folder / "proofs")
            write_file(self.folder / "proofs" / f"{round:06d}-{member}.bin", proof)
        self.audit.append(Action.MEMBER_CHEATED, f"round {round}, {member}: {why}")
        self.log.error("member_cheated", round=round, member=member, error=why)

    def note_epsilon(self, member: str, epsilon: float, alone: float | None = None) -> None:
        """Shows the epsilon that a member reported, and the one `alone` if all others collude, where that is another.
        Raises nothing: it is for the operator's eyes only."""
        if 0 <= epsilon < 1e6 and (alone is None or 0 <= alone < 1e6):
            self.metrics.report_epsilon(member, epsilon)
            self.note(lambda: self.rounds.note_epsilon(member, epsilon, alone))
            self.log.info(
                "epsilon", member=member, epsilon=epsilon, budget=self.charter.privacy.largest_epsilon
            )
