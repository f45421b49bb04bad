"""A member's contribution to a round: one charge and one private update, quantised once, the same bytes in every
attempt."""

from __future__ import annotations

import contextlib
import math
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from safetensors.numpy import save

from sordino_client.completion import presence
from sordino_client.corpus import UnitRegistry
from sordino_client.round.folder import RoundFolder, prune_rounds
from sordino_client.round.heads import require_charged
from sordino_client.round.member import Member
from sordino_client.training import TrainingJob
from sordino_client.training.job import finished
from sordino_client.training.preparation import Prepared
from sordino_client.training.slots import training_slot
from sordino_client.training.yielding import giving_way
from sordino_platform.architecture import Architecture, Vector, trainable_shapes, unflatten
from sordino_platform.durable import make_folder, write_file
from sordino_platform.machine.power import battery_in_use
from sordino_platform.plans import Plan
from sordino_platform.proposal import SIZE_BUCKETS, Proposal, quantiser_for
from sordino_platform.tracing import TracedStep
from sordino_privacy.counts import CountPlan
from sordino_privacy.errors import StorageError
from sordino_privacy.secagg import MaskedStatistics, Membership, ReplayError, RoundContext
from sordino_privacy.secagg.journal import Step

# The disk that a round needs, in float32 vectors of the model's length: weights, update, its copy, ring's vector,
# the masked upload, release.
ROUND_VECTORS = 7
SPARE_BYTES = 64 << 20


def require_willing(member: Member, proposal: Proposal, membership: Membership) -> None:
    """Checks that the owner allows the proposal under the epoch in which the round would be held. Raises RefusalError;
    nothing was trained or charged then."""
    context = proposal.context
    known = any((r.run, r.round) == (context.run, context.round) for r in member.ledger.reservations())
    if known:
        after, alone = member.epsilon_spent(), member.ledger.spent_alone().value
    else:
        noise = member.noise(proposal.plan, membership)
        cost = member.ledger.preview(proposal.plan, noise=noise)
        after, alone = cost.after, cost.alone
    member.participation.admit(
        context.run, context.round, proposal.plan.digest(), epsilon_after=after, epsilon_alone_after=alone
    )


def contribute(member: Member, proposal: Proposal, model: Vector) -> None:
    """Trains, quantises and stores; or finds what an earlier attempt stored. Never twice.

    The charge is made as late as is sound: after every check that can refuse, and durably before the first gradient. A
    training that ends without an update costs nothing, because nothing of it left this machine. `model` is the vector
    that the round begins with. Raises BudgetError, DataError, ConfigurationError, StorageError, TrainingError.
    """
    context, plan = proposal.context, proposal.plan
    place = RoundFolder.of(member.folder, context.run, context.round)
    give_back(member, keep=lambda run, round: (run, round) == (context.run, context.round))
    prune_rounds(member.folder, but=place)
    require_charged(member)
    member.ledger.require(plan, run=context.run, round=context.round, noise=member.noise(plan))
    require_one_epoch(member, context)
    place.agree(context)
    if place.trained:
        charge(member, proposal)
        return
    try:
        train(member, proposal, place, model)
    except BaseException:
        # Whatever ended the training, nothing of this round has left this machine; and without its update nothing ever
        # will.
        if (context.run, context.round) not in member.ledger.firm():
            place.remove()
            member.ledger.void(context.run, context.round)
            member.metrics.epsilon.set(member.epsilon_spent())
        raise


def require_one_epoch(member: Member, context: RoundContext) -> None:
    """Where noise comes in shares: checks that nothing of this round has left under another epoch.

    Raises ReplayError. Under one epoch a round opens one sum (docs/distributed-noise.md); under two epochs, two sums of
    the same shares could be opened.
    """
    if member.membership.shares == 1:
        return
    for entry in member.ledger.entries(context.federation, context.run, context.round):
        if entry.step >= Step.UPLOADED and entry.epoch != context.epoch:
            raise ReplayError("this round's update went out under another epoch: its noise is not used again")


def train(member: Member, proposal: Proposal, place: RoundFolder, model: Vector) -> None:
    """Prepares, waits for a place to train, charges, trains, and stores the quantised update."""
    context, plan = proposal.context, proposal.plan
    with member.traces.step(TracedStep.MEMBER_PREPARE):
        prepared = member.prepared(window=plan.window)
    base = member.base()
    require_space(member.folder, member.config, plan)
    weights = unflatten(member.config, member.parameters, model)
    make_folder(place.path)
    write_file(place.path / "weights.safetensors", save(weights), secret=True)
    job = TrainingJob(
        folder=place.path / "job",
        config=member.config,
        weights=place.path / "weights.safetensors",
        units=place.path / "units.npz",
        plan=plan,
        base=base,
        noise=member.noise(plan),
    )
    with (
        training_slot(member.settings.training_slots, member.participation.require_wanted),
        _giving_way(member),
    ):
        member.worker.warm()
        if finished(job) is None:
            take_units(member, prepared, job.units)
        member.participation.require_wanted()
        charge(member, proposal)
        started = time.monotonic()
        with member.traces.step(TracedStep.MEMBER_COMPUTE):
            update = member.worker.train(job, member.on_progress)
    member.metrics.train_seconds.observe(time.monotonic() - started)
    member.metrics.train_units.inc(update.local.units)
    member.metrics.train_loss.set(update.local.mean_loss)
    member.metrics.clipped.set(update.local.clipped_share)
    # Loss and exact counts are private data and stay here. Weight and number of examples are those of the declared,
    # public size class. Where noise comes in shares every member weighs the same; counts are added up, never averaged:
    # each weighs 1.
    membership, bucket = member.membership, member.settings.size_bucket
    quantiser = quantiser_for(member.config, plan, members=len(membership.members), shares=membership.shares)
    with member.traces.step(TracedStep.MEMBER_QUANTISE):
        if job.noise is not None:
            quantised = quantiser.embed(update.integers(), bucket, secrets.token_bytes)
        else:
            weight = 1.0 if isinstance(plan, CountPlan) else bucket / SIZE_BUCKETS
            quantised = quantiser.quantise(
                update.vector(), weight, MaskedStatistics(examples=bucket), secrets.token_bytes
            )
        data = quantised.encode()
        place.finish(data)
    if member.settings.keep_quantised_updates_for_a_proof_on_this_machine:
        proofs = member.settings.keep_quantised_updates_for_a_proof_on_this_machine
        make_folder(proofs)
        write_file(proofs / f"{context.round:06d}-{member.name}.bin", data, secret=True)


def take_units(member: Member, prepared: Prepared, place: Path) -> None:
    """Marks the units as trained, then takes their file into the round. Raises StorageError.

    The order matters: every unit that a round trains on is marked first, so that units that turn out to be one are
    never trained on as one (sordino_client.corpus.registry).
    """
    corpus = member.folder / "corpus"
    with UnitRegistry(corpus / "units.sqlite") as registry:
        registry.train(prepared.reading)
    try:
        place.unlink(missing_ok=True)
        place.hardlink_to(prepared.path(corpus))
    except OSError as error:
        raise StorageError(
            f"the units of this round cannot be taken: {error.strerror}", hint="the next round will do"
        ) from error


def charge(member: Member, proposal: Proposal) -> None:
    """Charges the round, if it is not charged yet. Durable when this returns. Raises BudgetError."""
    noise = member.noise(proposal.plan)
    member.ledger.reserve(proposal.context.run, proposal.context.round, proposal.plan, noise=noise)
    member.metrics.epsilon.set(member.epsilon_spent())
    member.metrics.noise.set(proposal.plan.noise_multiplier)
    member.participation.charged()


def give_back(member: Member, *, keep: Callable[[str, int], bool]) -> None:
    """Ends the rounds of which nothing has left, except those to `keep`: their update is destroyed, then their charge
    is given back."""
    for run, round in member.ledger.held():
        if not keep(run, round):
            RoundFolder.of(member.folder, run, round).remove()
            member.ledger.void(run, round)
            member.metrics.epsilon.set(member.epsilon_spent())


def require_space(folder: Path, config: Architecture, plan: Plan | None = None) -> None:
    """Raises StorageError unless the disk of a member's folder has room for the files of a round of this plan (of a
    training, if none is given)."""
    count = sum(math.prod(shape) for shape in trainable_shapes(config).values())
    if isinstance(plan, CountPlan):
        count = max(count, plan.cells)
    needed = ROUND_VECTORS * 4 * count + SPARE_BYTES
    if shutil.disk_usage(folder).free < needed:
        raise StorageError(
            f"a round needs {needed >> 20} MiB on the disk of {folder}, and there is less",
            hint="free some space; nothing was charged",
        )


def uploaded(member: Member, agreement: RoundContext) -> None:
    """Notes in the ledger that the round's update went out."""
    for reservation in member.ledger.reservations():
        if (reservation.run, reservation.round) == (agreement.run, agreement.round):
            member.ledger.commit(reservation)


def _giving_way(member: Member) -> contextlib.AbstractContextManager[None]:
    """Training stops for this member's own completions, and on battery unless the settings allow it."""
    lock = presence.place(member.folder / "completion")
    return giving_way(
        member.worker,
        busy=lambda: presence.occupied(lock),
        on_battery=lambda: not member.settings.train_on_battery and battery_in_use(),
    )
