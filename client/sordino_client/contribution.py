"""What a member gives to a round: one charge, one private update, quantised once, the same bytes in every attempt."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time

from safetensors.numpy import save

from sordino_client.completion import presence
from sordino_client.member import Member
from sordino_client.round_folder import RoundFolder
from sordino_client.training import TrainingJob
from sordino_client.training.slots import training_slot
from sordino_client.training.yielding import battery_in_use, giving_way
from sordino_platform.architecture import unflatten
from sordino_platform.durable import make_folder, write_file
from sordino_platform.proposal import SIZE_BUCKETS, Proposal, quantiser_for
from sordino_privacy.secagg import Context, Quantised, Statistics


def admit(member: Member, proposal: Proposal) -> None:
    """Whether a person's wish allows the proposal. Raises RefusalError; nothing was trained or charged then."""
    context = proposal.context
    known = any((r.run, r.round) == (context.run, context.round) for r in member.ledger.reservations())
    after = member.epsilon_spent() if known else member.ledger.preview(proposal.plan).after
    member.participation.admit(context.run, context.round, epsilon_after=after)


def contribute(member: Member, proposal: Proposal) -> None:
    """Charges the ledger, trains, quantises and stores; or finds what an earlier attempt stored. Never twice.

    Raises BudgetError before anything is read of the data, TrainingError, DataError.
    """
    context, plan = proposal.context, proposal.plan
    place = RoundFolder.of(member.folder, context.run, context.round)
    place.agree(context, plan)
    if place.trained:
        return
    member.ledger.reserve(context.run, context.round, plan)
    member.metrics.epsilon.set(member.epsilon_spent())
    member.participation.charged()
    member.metrics.noise.set(plan.noise_multiplier)
    for other in place.path.parent.glob("*"):
        if other != place.path:
            shutil.rmtree(other)
    prepared = member.prepared(window=plan.window)
    weights = unflatten(member.config, member.parameters, proposal.weights)
    write_file(place.path / "weights.safetensors", save(weights), secret=True)
    job = TrainingJob(
        folder=place.path / "job",
        config=member.config,
        weights=place.path / "weights.safetensors",
        units=prepared.path(member.folder / "corpus"),
        plan=plan,
        base=member.base(),
    )
    started = time.monotonic()
    with training_slot(member.settings.training_slots), _giving_way(member):
        update = member.worker.train(job, member.on_progress)
    member.metrics.train_seconds.observe(time.monotonic() - started)
    member.metrics.train_units.inc(update.local.units)
    member.metrics.train_loss.set(update.local.mean_loss)
    member.metrics.clipped.set(update.local.clipped_share)
    # Loss and exact counts are data: they stay here. The weight and the examples are the declared public bucket.
    quantiser = quantiser_for(member.config, plan, members=len(member.membership.members))
    quantised = quantiser.quantise(
        update.vector(),
        member.settings.size_bucket / SIZE_BUCKETS,
        Statistics(examples=member.settings.size_bucket),
        secrets.token_bytes,
    )
    data = quantised.encode()
    place.finish(data)
    if member.settings.keep_quantised_updates_for_a_proof_on_this_machine:
        proofs = member.settings.keep_quantised_updates_for_a_proof_on_this_machine
        make_folder(proofs)
        write_file(proofs / f"{context.round:06d}-{member.name}.bin", data, secret=True)


def stored_update(member: Member, agreement: Context) -> Quantised:
    """The update of this round: the same bytes in every attempt. Raises ReplayError when there is none."""
    return RoundFolder.of(member.folder, agreement.run, agreement.round).quantised()


def uploaded(member: Member, agreement: Context) -> None:
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
