"""A member: its folder and its state, which all phases of app.py work on.

agreement.py      what it agrees to
contribution.py   what it gives to a round
result.py         what comes of it

<folder>/
  identity.key tls.pem charters/ …   the identity (sordino_platform.identity)
  member.toml                        settings
  ledger/                            what was spent
  corpus/                            units and the register of which file belongs to which unit
  releases/                          verified releases
  coming/                            manifests that were brought before the newest release (coming.py)
  round/                             the present round (folder.py)
  completion/                        the completion server's own folder; the agent writes only serving/ in it
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sordino_client.corpus import UnitRegistry
from sordino_client.corpus.origin import origins
from sordino_client.ledger import Budget, Ledger, LedgerHeldError, LedgerRefusesError
from sordino_client.ledger.machine import Machine, machine_folder
from sordino_client.metrics import MemberMetrics, ParticipationOutcome
from sordino_client.round.coming import ComingManifests
from sordino_client.round.folder import newest_round, prune_rounds
from sordino_client.round.heads import require_charged
from sordino_client.round.participation import Participation
from sordino_client.settings import BUDGET_DELTA, MemberSettings, load_member_settings
from sordino_client.training import TrainingProgress, TrainingWorker
from sordino_client.training.base_here import base_of, tokenizer_of
from sordino_client.training.preparation import Prepared, last_prepared, prepare
from sordino_platform.architecture import Architecture, Parameters
from sordino_platform.charter import Charter
from sordino_platform.durable import make_folder
from sordino_platform.founding_model import founding_parameters
from sordino_platform.huggingface import HuggingFaceTokenizer
from sordino_platform.identity import Identity
from sordino_platform.plans import Plan
from sordino_platform.proposal import shared_noise
from sordino_platform.release import ReleaseStore
from sordino_platform.telemetry import log
from sordino_platform.tokenizer import Tokenizer
from sordino_platform.tracing import Traces, open_traces
from sordino_privacy.errors import BudgetError, ConfigurationError, RefusalError, SordinoError, StorageError
from sordino_privacy.secagg import (
    BadParcelError,
    BudgetExhaustedError,
    Journal,
    Membership,
    PolicyError,
    RoundContext,
    SecaggError,
)
from sordino_privacy.shared_noise import SharedNoise
from sordino_privacy.signing import Signer


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
    machine: Machine
    releases: ReleaseStore
    coming: ComingManifests
    metrics: MemberMetrics
    worker: TrainingWorker
    participation: Participation
    traces: Traces
    on_progress: Callable[[TrainingProgress], None] | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, *, worker: TrainingWorker | None = None) -> Iterator[Member]:
        """Opens the folder for one process. `worker` trains in place of one of this member's own, and is left open.
        Raises ConfigurationError, StorageError; of these LedgerHeldError when
        another process has it, LedgerRefusesError when its ledger cannot be charged."""
        settings, identity = load_member_settings(folder), Identity.load(folder)
        charter = identity.charter  # one that has expired refuses every round, and completions go on
        if identity.card.role != "member" or identity.card.name != settings.name:
            raise ConfigurationError(
                f"{folder} holds the identity of {identity.card.role} {identity.card.name!r}, "
                f"and its settings are those of member {settings.name!r}"
            )
        budget = budget_of(settings, charter)
        make_folder(folder / "corpus")
        with UnitRegistry(folder / "corpus" / "units.sqlite") as registry:
            datasets = [registry.dataset]  # the data's own name: it stays when files change or folders move
        make_folder(folder / "ledger")
        participation = Participation(folder, settings.participate)
        # Removes what a killed process left of older rounds; the newest one may still be under way.
        prune_rounds(folder, but=None if participation.paused else newest_round(folder))
        with refusing():
            opened = Ledger.open(folder / "ledger", datasets=datasets, budget=budget)
        traces = open_traces(
            settings.traces,
            authority=settings.traces_authority,
            federation=charter.federation,
            role="member",
            name=settings.name,
        )
        with (
            contextlib.closing(traces),
            opened as ledger,
            contextlib.nullcontext(worker) if worker is not None else own_worker(settings) as trainer,
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
                machine=Machine(settings.budgets_folder or machine_folder()),
                releases=ReleaseStore(folder / "releases", identity.charters),
                coming=ComingManifests(folder / "coming"),
                metrics=MemberMetrics(),
                worker=trainer,
                participation=participation,
                traces=traces,
            )
            with refusing():
                member.machine.claim(ledger)
                require_charged(member)
            member.metrics.budget.set(budget.epsilon)
            member.metrics.epsilon.set(ledger.spent().value)
            member.metrics.expiry.set(identity.tls().expires_at.timestamp())
            yield member

    @property
    def name(self) -> str:
        """The charter's name of this member."""
        return self.settings.name

    def newest_release(self) -> int:
        """The number of the newest release whose vector is held, -1 if there is none. A release that a crash cut short
        comes again with the next proposal."""
        return self.releases.newest_held()

    def epsilon_spent(self) -> float:
        """The local epsilon of everything ever reserved; it depends on no data."""
        return self.ledger.spent().value

    def noise(self, plan: Plan, membership: Membership | None = None) -> SharedNoise | None:
        """The terms of noise in shares; None if this member adds all of the noise itself. `membership` is given if it
        is not in force yet."""
        membership = membership or self.membership
        if membership.shares == 1:
            return None
        return shared_noise(self.config, plan, members=len(membership.members), shares=membership.shares)

    def session_arguments(
        self, agreement: RoundContext, membership: Membership | None = None
    ) -> tuple[str, Signer, Membership, RoundContext, Journal, Callable[[int], bytes]]:
        """The arguments of a `MemberSession`. `membership` is given if it is not in force yet."""
        known, key = membership or self.membership, self.identity.signing_key
        return self.name, key, known, agreement, self.ledger, secrets.token_bytes

    def prepared(self, *, window: int, refresh: bool = False) -> Prepared:
        """The units of this member's repositories: read now with `refresh`, or if no earlier reading fits.

        Raises DataError when a repository cannot be read or has too few units, ConfigurationError when this machine
        knows another budget for this code.
        """
        folder = self.folder / "corpus"
        tokenizer = self.tokenizer()
        prepared = None if refresh else last_prepared(folder, self.settings, tokenizer, window=window)
        if prepared is None:
            prepared = prepare(folder, self.settings, tokenizer, window=window, end=self.config.end)
        if not self.machine.has_claimed(self.ledger, prepared.reading):
            with UnitRegistry(folder / "units.sqlite") as registry:
                marks = registry.marks()
            known = origins(self.settings.repositories)
            self.machine.claim_data(self.ledger, origins=known, texts=marks, reading=prepared.reading)
        self.metrics.corpus_files.set(prepared.files)
        self.metrics.corpus_units.set(prepared.units)
        for reason, count in prepared.excluded.items():
            self.metrics.corpus_excluded.labels(reason).set(count)
        return prepared

    def base(self) -> Path | None:
        """The place of the base, where the charter has one that does not ship. Raises ConfigurationError."""
        return base_of(self.settings, self.charter.model)

    def tokenizer(self) -> Tokenizer | HuggingFaceTokenizer:
        """The tokenizer of the charter's model. Raises ConfigurationError if its base is not here."""
        return tokenizer_of(self.settings, self.charter.model)

    def cheated(self, error: BadParcelError) -> None:
        """Counts and logs that another member cheated this one. The round goes on for it, in the next attempt."""
        self.metrics.refusals.labels(error.label).inc()
        log().warning("cheated", member=self.name, error=error.message)

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


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Makes one kind of error of everything that keeps the ledger from being charged."""
    try:
        yield
    except LedgerHeldError:
        raise
    except (StorageError, ConfigurationError) as error:
        raise LedgerRefusesError(error.message, hint=error.hint) from error


def own_worker(settings: MemberSettings) -> TrainingWorker:
    """The trainer that a member's settings ask for."""
    return TrainingWorker(
        processors=settings.training_processors,
        memory=int(settings.training_memory_gb * (1 << 30)),
        device=settings.training_device,
    )


def budget_of(settings: MemberSettings, charter: Charter) -> Budget:
    """The most that a member spends: its own caps, or the charter's if that is lower."""
    return Budget(
        epsilon=min(settings.budget_epsilon, charter.privacy.largest_epsilon),
        delta=BUDGET_DELTA,
        epsilon_per_day=settings.epsilon_per_day,
        rounds_per_day=settings.rounds_per_day,
        epsilon_if_others_collude=settings.epsilon_if_others_collude,
    )
