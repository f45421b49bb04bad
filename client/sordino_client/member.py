"""A member: its folder, and what it does with a proposal. Everything that the phases of app.py share.

<folder>/
  identity.key tls.pem charters/ …   the identity (sordino_platform.identity)
  member.toml                        settings
  ledger/                            what was spent
  corpus/                            units and the register of which file belongs to which unit
  releases/                          verified releases
  round/                             the present round: job, update, quantised update
  serving/                           the bundle that the completion server loads
  memory/                            the completion server's own folder; nothing here opens it
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from flwr.app import Context
from safetensors.numpy import save

from sordino_client.completion import presence
from sordino_client.corpus import UnitRegistry
from sordino_client.ledger import Budget, Ledger
from sordino_client.metrics import MemberMetrics, ParticipationOutcome
from sordino_client.participation import Participation
from sordino_client.preparation import Prepared, last_prepared, prepare
from sordino_client.settings import BUDGET_DELTA, MemberSettings, load_settings
from sordino_client.training import Progress, TrainingJob, TrainingWorker
from sordino_client.training.yielding import battery_in_use, giving_way
from sordino_platform import base
from sordino_platform.architecture import (
    Architecture,
    HuggingFaceConfig,
    Parameters,
    merged,
    unflatten,
    without_adapters,
)
from sordino_platform.charter import Charter, SignedCharter
from sordino_platform.charter.changes import changes
from sordino_platform.durable import make_folder, map_file, read_file, write_file
from sordino_platform.flower.phases import Fields
from sordino_platform.founding_model import founding_parameters, require_founding
from sordino_platform.huggingface import HuggingFaceTokenizer, write_adapter
from sordino_platform.identity import Identity
from sordino_platform.proposal import MAX_PLAN_BYTES, SIZE_BUCKETS, Proposal, norm_limit, quantiser_for
from sordino_platform.release import (
    ReleaseStore,
    SignedManifest,
    next_model,
    vector_hash,
    write_serving_bundle,
)
from sordino_platform.telemetry import log
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import BudgetError, ConfigurationError, RefusalError, SordinoError, StorageError
from sordino_privacy.secagg import (
    BudgetExhaustedError,
    ContextError,
    Journal,
    Membership,
    ModelError,
    PolicyError,
    Quantised,
    ReplayError,
    SecaggError,
    Statistics,
    euclidean_norm,
)
from sordino_privacy.secagg import Context as Agreement

MAX_QUANTISED_BYTES = 5 << 30
MAX_AGREEMENT_BYTES = 1 << 20
PLAN = "plan.json"
SLOT_SECONDS = 0.1

MEMBER: ContextVar[Member] = ContextVar("sordino_member")


@dataclass(slots=True, kw_only=True)
class Member:
    """One member's state for the life of a process (the agent), or for one message (a virtual node)."""

    folder: Path
    settings: MemberSettings
    identity: Identity
    charter: Charter
    membership: Membership
    config: Architecture
    parameters: Parameters = field(repr=False)
    ledger: Ledger
    releases: ReleaseStore
    metrics: MemberMetrics
    worker: TrainingWorker
    participation: Participation
    on_progress: Callable[[Progress], None] | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path) -> Iterator[Member]:
        """Opens the folder for one process. Raises ConfigurationError, StorageError (also: another process has it)."""
        settings, identity = load_settings(folder), Identity.load(folder)
        charter = identity.charter
        charter.require_current()
        if identity.card.role != "member" or identity.card.name != settings.name:
            raise ConfigurationError(
                f"{folder} holds the identity of {identity.card.role} {identity.card.name!r}, "
                f"and its settings are those of member {settings.name!r}"
            )
        budget = Budget(
            epsilon=min(settings.budget_epsilon, charter.privacy.largest_epsilon), delta=BUDGET_DELTA
        )
        make_folder(folder / "corpus")
        with UnitRegistry(folder / "corpus" / "units.sqlite") as registry:
            datasets = [registry.dataset]  # the data's own name: it stays when files change or folders move
        make_folder(folder / "ledger")
        with (
            Ledger.open(folder / "ledger", datasets=datasets, budget=budget) as ledger,
            TrainingWorker(processors=settings.training_processors) as worker,
        ):
            member = cls(
                folder=folder,
                settings=settings,
                identity=identity,
                charter=charter,
                membership=charter.membership(),
                config=charter.model.config(),
                parameters=founding_parameters(charter.model),
                ledger=ledger,
                releases=ReleaseStore(folder / "releases", identity.charters),
                metrics=MemberMetrics(),
                worker=worker,
                participation=Participation(folder, settings.participate),
            )
            member.metrics.budget.set(budget.epsilon)
            member.metrics.epsilon.set(ledger.spent().value)
            member.metrics.expiry.set(identity.tls().expires_at.timestamp())
            yield member

    @property
    def name(self) -> str:
        """The charter's name of this member."""
        return self.settings.name

    def newest_release(self) -> int:
        """The number of the newest release held, -1 when there is none."""
        return len(self.releases.chain()) - 1

    def epsilon_spent(self) -> float:
        """The local epsilon of everything ever reserved; it depends on no data."""
        return self.ledger.spent().value

    def receive(self, charters: Sequence[bytes]) -> None:
        """Keeps new epochs that the coordinator passed on, if the pinned root signed them and they protect no less.

        One that protects less waits for a person: the coordinator's message cannot loosen anything. Raises PolicyError,
        and what `CharterStore.accept` raises.
        """
        store = self.identity.charters
        for data in charters:
            offered = SignedCharter.parse(data, root=store.root).charter
            weaker = [change for change in changes(store.head().charter, offered) if change.weaker]
            if weaker and offered.epoch > store.head().charter.epoch:
                raise PolicyError(
                    f"epoch {offered.epoch} protects less than the one held here: {weaker[0].field} would go from "
                    f"{weaker[0].before} to {weaker[0].after}",
                    hint="look it over (sordino charter diff); if you agree: sordino charter accept",
                )
            store.accept(data)

    def adopt(self) -> None:
        """Takes over the members, keys, floors and privacy policy of a new epoch that was accepted in this folder.

        Called where a round begins, so that a round never changes its rules half-way. Raises ConfigurationError.
        """
        charter = self.identity.charter
        if charter.hash() == self.charter.hash():
            return
        if charter.model != self.charter.model:
            raise ConfigurationError(
                f"epoch {charter.epoch} is for another model", hint="a new model is a new federation"
            )
        self.charter, self.membership = charter, charter.membership()
        largest = min(self.settings.budget_epsilon, charter.privacy.largest_epsilon)
        self.ledger.limit(largest)
        self.metrics.budget.set(largest)
        log().info("epoch_adopted", member=self.name, count=len(charter.members))

    # ------------------------------------------------------------------------------------------------- a proposal

    def agree(self, proposal: Proposal) -> Agreement:
        """The context that this member derives for itself; from the proposal it takes only names and the nonce.

        Raises ModelError (the releases do not chain, or the weights are others), PolicyError, ConfigurationError.
        """
        plan, said = proposal.plan, proposal.context
        self.receive(proposal.charters)
        self.adopt()
        self.charter.require_current()
        if not self._is_round(said.run, said.round):
            raise ContextError("the run's name is not one that a coordinator of this software gives")
        self.charter.privacy.require(
            noise_multiplier=plan.noise_multiplier,
            clip_norm=plan.clip_norm,
            sampling_rate=plan.sampling_rate,
            steps=plan.steps,
            delta=plan.delta,
        )
        if (
            plan.delta > self.ledger.budget.delta * 10
            or plan.windows_per_unit > self.settings.windows_per_unit
        ):
            raise PolicyError("the plan's delta or windows per unit exceed this member's own settings")
        quantiser = quantiser_for(self.config, plan, members=len(self.membership.members))
        try:
            self._require_reachable(proposal)
            for manifest in proposal.manifests[:1]:
                require_founding(SignedManifest.parse(manifest).manifest, self.config, self.parameters)
            for manifest in proposal.manifests[:-1]:
                self.releases.accept(manifest, None)
            for manifest in proposal.manifests[-1:]:
                self.releases.accept(manifest, proposal.weights)
            head = self.releases.head()
        except ConfigurationError as error:
            raise ModelError(error.message, hint=error.hint) from error
        if vector_hash(proposal.weights) != head.vector_hash:
            raise ModelError("the proposed weights are not those of the newest release")
        return Agreement.under(
            self.membership,
            run=said.run,
            round=said.round,
            attempt=said.attempt,
            server_nonce=said.server_nonce,
            model_hash=head.vector_hash,
            train_config_hash=plan.digest(),
            quantiser=quantiser,
        )

    def _require_reachable(self, proposal: Proposal) -> None:
        """Refusal 7 where this member took part in the round behind the one release that it lacks, and did not take
        its result: what it would not have taken there must not come in by the next proposal. Raises ModelError."""
        held = self.newest_release()
        if held < 0 or len(proposal.manifests) != 1 or not self.releases.holds(held):
            return
        manifest = SignedManifest.parse(proposal.manifests[0]).manifest
        if manifest.number != held + 1 or manifest.round is None:
            return
        place = self.folder / "round" / f"{manifest.run}-{manifest.round}"
        if not self._is_round(manifest.run, manifest.round) or not (place / PLAN).exists():
            return
        old, limit = self.releases.vector(), manifest.optimiser.reach(self._norm_limit(place))
        if old.shape != proposal.weights.shape:
            raise ModelError("the proposed weights have another shape than this member's model")
        if not (norm := euclidean_norm(proposal.weights - old)) <= limit:
            raise ModelError(
                f"the proposed weights lie {norm:.4g} from this member's model, above the round's limit of {limit:.4g}"
            )

    def _norm_limit(self, place: Path) -> float:
        """The largest norm of the mean of a round that this member agreed to."""
        agreement = Agreement.decode(read_file(place / "agreement.bin", limit=MAX_AGREEMENT_BYTES))
        plan = TrainingPlan.parse(json.loads(read_file(place / PLAN, limit=MAX_PLAN_BYTES)))
        return norm_limit(plan, agreement.quantiser)

    def session_arguments(
        self, agreement: Agreement
    ) -> tuple[str, bytes, Membership, Agreement, Journal, Callable[[int], bytes]]:
        """What a `MemberSession` is made of."""
        key = self.identity.signing_key.private_bytes_raw()
        return self.name, key, self.membership, agreement, self.ledger, secrets.token_bytes

    # --------------------------------------------------------------------------------------------------- training

    def prepared(self, *, window: int, refresh: bool = False) -> Prepared:
        """The units of this member's repositories: read now with `refresh`, or if no earlier reading fits.

        Raises DataError when a repository cannot be read or has too few units.
        """
        folder = self.folder / "corpus"
        tokenizer = self._tokenizer()
        prepared = None if refresh else last_prepared(folder, self.settings, tokenizer, window=window)
        if prepared is None:
            prepared = prepare(folder, self.settings, tokenizer, window=window, end=self.config.end)
        self.metrics.corpus_files.set(prepared.files)
        self.metrics.corpus_units.set(prepared.units)
        for reason, count in prepared.excluded.items():
            self.metrics.corpus_excluded.labels(reason).set(count)
        return prepared

    def admit(self, proposal: Proposal) -> None:
        """Whether a person's wish allows the proposal. Raises RefusalError; nothing was trained or charged then."""
        context = proposal.context
        known = any((r.run, r.round) == (context.run, context.round) for r in self.ledger.reservations())
        after = self.epsilon_spent() if known else self.ledger.preview(proposal.plan).after
        self.participation.admit(context.run, context.round, epsilon_after=after)

    def contribute(self, proposal: Proposal) -> None:
        """Charges the ledger, trains, quantises and stores; or finds what an earlier attempt stored. Never twice.

        Raises BudgetError before anything is read of the data, TrainingError, DataError.
        """
        context, plan = proposal.context, proposal.plan
        place = self._round_folder(context)
        make_folder(place)
        write_file(place / "agreement.bin", context.encode(), secret=True)
        write_file(place / PLAN, plan.canonical(), secret=True)
        if (place / "quantised.bin").exists():
            return
        self.ledger.reserve(context.run, context.round, plan)
        self.metrics.epsilon.set(self.epsilon_spent())
        self.participation.charged()
        self.metrics.noise.set(plan.noise_multiplier)
        for other in (self.folder / "round").glob("*"):
            if other != place:
                shutil.rmtree(other)
        prepared = self.prepared(window=plan.window)
        weights = unflatten(self.config, self.parameters, proposal.weights)
        write_file(place / "weights.safetensors", save(weights), secret=True)
        job = TrainingJob(
            folder=place / "job",
            config=self.config,
            weights=place / "weights.safetensors",
            units=prepared.path(self.folder / "corpus"),
            plan=plan,
            base=self._base(),
        )
        started = time.monotonic()
        with training_slot(self.settings.training_slots), self._giving_way():
            update = self.worker.train(job, self.on_progress)
        self.metrics.train_seconds.observe(time.monotonic() - started)
        self.metrics.train_units.inc(update.local.units)
        self.metrics.train_loss.set(update.local.mean_loss)
        self.metrics.clipped.set(update.local.clipped_share)
        # Loss and exact counts are data: they stay here. The weight and the examples are the declared public bucket.
        quantiser = quantiser_for(self.config, plan, members=len(self.membership.members))
        quantised = quantiser.quantise(
            update.vector(),
            self.settings.size_bucket / SIZE_BUCKETS,
            Statistics(examples=self.settings.size_bucket),
            secrets.token_bytes,
        )
        data = quantised.encode()
        write_file(place / "quantised.bin", data, secret=True)
        if self.settings.keep_quantised_updates_for_a_proof_on_this_machine:
            proofs = self.settings.keep_quantised_updates_for_a_proof_on_this_machine
            make_folder(proofs)
            write_file(proofs / f"{context.round:06d}-{self.name}.bin", data, secret=True)

    def quantised(self, agreement: Agreement) -> Quantised:
        """The stored update of this round: the same bytes in every attempt. Raises ReplayError when there is none."""
        path = self._round_folder(agreement) / "quantised.bin"
        if not path.exists():
            raise ReplayError("this member has no stored update for this round")
        return Quantised.decode(map_file(path, limit=MAX_QUANTISED_BYTES))

    def uploaded(self, agreement: Agreement) -> None:
        """Notes in the ledger that the round's update went out."""
        for reservation in self.ledger.reservations():
            if (reservation.run, reservation.round) == (agreement.run, agreement.round):
                self.ledger.commit(reservation)

    # ----------------------------------------------------------------------------------------------------- release

    def take(self, fields: Fields) -> int:
        """Repeats the coordinator's arithmetic and keeps the release; returns the newest number held.

        A member that did not see the round through learns the release with its next proposal. Raises ModelError when
        the opened sum does not lead to the signed model: such a coordinator cannot be trusted.
        """
        run, round = fields.text("run"), fields.integer("round")
        manifest = fields.blob("manifest")
        path = self.folder / "round" / f"{run}-{round}" / "agreement.bin"
        if not self._is_round(run, round) or not path.exists():
            fields.drop()
            return self.newest_release()
        agreement = Agreement.decode(read_file(path, limit=MAX_AGREEMENT_BYTES))
        ring = fields.vector("sum", agreement.quantiser.dtype.type)
        step = agreement.quantiser.decode(ring).mean()
        if not (norm := euclidean_norm(step)) <= (limit := self._norm_limit(path.parent)):
            raise ModelError(f"the opened mean has norm {norm:.4g}, above the limit of {limit:.4g}")
        try:
            before, optimiser = self.releases.head(), SignedManifest.parse(manifest).manifest.optimiser
            kept = len(before.moments) if before.optimiser == optimiser else 0
            moments = [fields.vector(f"moment{index}", np.float32) for index in range(kept)]
            vector, _ = next_model(before, optimiser, self.releases.vector(), step, moments)
            release = self.releases.accept(manifest, vector).number
        except ConfigurationError as error:
            raise ModelError(
                f"the opened sum does not lead to the signed release: {error.message}"
            ) from error
        self.metrics.participations.labels(ParticipationOutcome.CONTRIBUTED.value).inc()
        log().info("release", member=self.name, round=round, release=release)
        # The round is over: its update is of no more use, and a secret that is not kept cannot be lost.
        shutil.rmtree(path.parent)
        self.serve()
        self.participation.ended(round, ParticipationOutcome.CONTRIBUTED.value)
        return release

    def serve(self) -> None:
        """Writes the newest release, or the public base where there is none yet, for the completion server.

        The completion engine runs our own architecture. Adapters of a Hugging Face base are written to `adapter/` in
        PEFT's format, for an engine that runs that base; the public base completes meanwhile.
        """
        number = max(0, self.newest_release())
        config, parameters = self.config, self.parameters
        if self.newest_release() >= 0 and self.releases.holds(number):
            parameters = unflatten(config, parameters, self.releases.vector(number))
        if isinstance(config, HuggingFaceConfig):
            write_adapter(self.folder / "adapter", config, parameters)
            config, _, parameters = base.load()
        with as_file(files("sordino_platform") / "base" / "tokenizer.json") as tokenizer:
            plain = without_adapters(config)
            write_serving_bundle(
                self.folder / "completion" / "serving", plain, merged(parameters), tokenizer, release=number
            )
        self.metrics.model_version.set(number)

    def refused(self, error: Exception) -> None:
        """Counts and logs a refusal. The text of our own errors holds no data; of others only the class is logged."""
        taking_part = self.participation.activity
        if not isinstance(error, SordinoError):
            self.metrics.participations.labels(ParticipationOutcome.FAILED.value).inc()
            if taking_part.phase != "idle":
                self.participation.ended(
                    taking_part.round, ParticipationOutcome.FAILED.value, "the agent failed"
                )
            log().error(
                "failed", member=self.name, error=type(error).__name__, hint="this is a bug: report it"
            )
            return
        outcome = ParticipationOutcome.FAILED
        if isinstance(error, StorageError):
            self.metrics.write_errors.inc()
        if isinstance(error, BudgetError):
            outcome = ParticipationOutcome.REFUSED_BUDGET
            self.metrics.refusals.labels(BudgetExhaustedError.label).inc()
        elif isinstance(error, SecaggError):
            outcome = (
                ParticipationOutcome.REFUSED_POLICY
                if isinstance(error, PolicyError)
                else ParticipationOutcome.DROPPED
            )
            self.metrics.refusals.labels(error.label).inc()
        elif isinstance(error, RefusalError):
            outcome = ParticipationOutcome.REFUSED_POLICY
        self.metrics.participations.labels(outcome.value).inc()
        if taking_part.phase != "idle":
            self.participation.ended(taking_part.round, outcome.value, error.message)
        log().warning(
            "refused", member=self.name, outcome=outcome.value, error=error.message, hint=error.hint
        )

    def _giving_way(self) -> contextlib.AbstractContextManager[None]:
        """Training stops for this member's own completions, and on battery unless the settings allow it."""
        lock = presence.place(self.folder / "completion")
        return giving_way(
            self.worker,
            busy=lambda: presence.occupied(lock),
            on_battery=lambda: not self.settings.train_on_battery and battery_in_use(),
        )

    def _base(self) -> Path | None:
        """The folder of the Hugging Face base, where the charter has one. Raises ConfigurationError."""
        if not isinstance(self.config, HuggingFaceConfig):
            return None
        if self.settings.base_model is None:
            raise ConfigurationError(
                "this federation trains adapters on a base model that every member keeps on its own disk",
                hint="fetch the base that the charter names, and set base_model in member.toml to its folder",
            )
        return self.settings.base_model

    def _tokenizer(self) -> Tokenizer | HuggingFaceTokenizer:
        folder = self._base()
        return Tokenizer.shipped() if folder is None else HuggingFaceTokenizer.load(folder)

    def _round_folder(self, context: Agreement) -> Path:
        return self.folder / "round" / f"{context.run}-{context.round}"

    def _is_round(self, run: str, round: int) -> bool:
        return len(run) <= 64 and run.isalnum() and 0 <= round < 1 << 32


@contextlib.contextmanager
def training_slot(folder: Path | None) -> Iterator[None]:
    """Holds one of the machine's places to train, one per core, where several members share it. None: no waiting."""
    if folder is None:
        yield
        return
    make_folder(folder)
    slots = [
        os.open(folder / f"slot-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for number in range(os.cpu_count() or 1)
    ]
    try:
        while not any(free(slot) for slot in slots):
            time.sleep(SLOT_SECONDS)
        yield
    finally:
        for slot in slots:
            os.close(slot)


def free(slot: int) -> bool:
    """Takes the lock on a slot's file, if nobody holds it."""
    try:
        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def resident(context: Context) -> Iterator[Member]:
    """The member that a message is for.

    In the agent it is the one that the process stands for. Under Flower's own runners it is opened for this message:
    `member-folder` of the run's configuration, or, for a virtual node, the folder of its partition under
    `federation-folder`. Raises ConfigurationError.
    """
    present = MEMBER.get(None)
    if present is not None:
        yield present
        return
    with Member.open(folder_of(context)) as member:
        yield member


def folder_of(context: Context) -> Path:
    """Where the member of a Flower node lives. Raises ConfigurationError when the run does not say."""
    own = context.node_config.get("member-folder")
    if isinstance(own, str):
        return Path(own)
    shared, partition = context.run_config.get("federation-folder"), context.node_config.get("partition-id")
    if not isinstance(shared, str) or not isinstance(partition, int):
        raise ConfigurationError(
            "Flower did not say which member this node is",
            hint="set member-folder in the node's configuration, or federation-folder in the run's",
        )
    members = sorted(path for path in (Path(shared) / "members").iterdir() if (path / "member.toml").exists())
    if not 0 <= partition < len(members):
        raise ConfigurationError(f"there is no member for partition {partition}: {len(members)} are founded")
    return members[partition]
