"""What comes of a round at a member: the release, repeated and kept, and the model that its endpoint serves."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files

import numpy as np

from sordino_client.member import Member
from sordino_client.metrics import ParticipationOutcome
from sordino_client.round_folder import RoundFolder, is_round
from sordino_platform import base
from sordino_platform.architecture import HuggingFaceConfig, merged, unflatten, without_adapters
from sordino_platform.flower.phases import Fields
from sordino_platform.huggingface import write_adapter
from sordino_platform.proposal import require_honest_lengths, require_honest_mean
from sordino_platform.release import Manifest, SignedManifest, next_model, write_serving_bundle
from sordino_platform.round_limits import RoundLimits
from sordino_platform.telemetry import log
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import ModelError, NormError, Opened, PolicyError, Totals

THREADS = 2


def take(member: Member, fields: Fields) -> int:
    """Repeats the coordinator's arithmetic and keeps the release; returns the newest number held.

    A member that did not see the round through learns the release with its next proposal. Raises EvidenceError
    when the sum is not shown to be the survivors', ModelError when it does not lead to the signed model: such a
    coordinator cannot be trusted.
    """
    run, round = fields.text("run"), fields.integer("round")
    manifest = fields.blob("manifest")
    place = RoundFolder.of(member.folder, run, round) if is_round(run, round) else None
    opened = None if place is None or not place.agreed else place.opened()
    if place is None or opened is None:
        fields.drop()
        return member.newest_release()
    made = parsed(manifest)
    if made.members != opened.survivors:
        raise ModelError("the release names other members than those whose sum this member helped to open")
    require_allowed(member, place, made)
    step = require_shown(member, place, opened, fields).mean()
    try:
        before, optimiser = member.releases.head(), made.optimiser
        kept = len(before.moments) if before.optimiser == optimiser else 0
        moments = [fields.vector(f"moment{index}", np.float32) for index in range(kept)]
        vector, _ = next_model(before, optimiser, member.releases.vector(), step, moments)
        release = member.releases.accept(manifest, vector).number
    except ConfigurationError as error:
        raise ModelError(f"the opened sum does not lead to the signed release: {error.message}") from error
    member.metrics.participations.labels(ParticipationOutcome.CONTRIBUTED.value).inc()
    log().info("release", member=member.name, round=round, release=release)
    # The round is over: its update is of no more use, and a secret that is not kept cannot be lost.
    shutil.rmtree(place.path)
    serve(member)
    member.participation.ended(round, ParticipationOutcome.CONTRIBUTED.value)
    return release


def parsed(manifest: bytes) -> Manifest:
    """Raises ModelError."""
    try:
        return SignedManifest.parse(manifest).manifest
    except ConfigurationError as error:
        raise ModelError(error.message) from error


def require_allowed(member: Member, place: RoundFolder, made: Manifest) -> None:
    """The server's step after this round's plan moves the model no further than the charter allows. Raises
    ModelError."""
    try:
        RoundLimits.of(member.charter, member.parameters).require_step(place.plan(), made.optimiser)
    except PolicyError as error:
        raise ModelError(error.message, hint=error.hint) from error


def require_shown(member: Member, place: RoundFolder, opened: Opened, fields: Fields) -> Totals:
    """The opened sum, shown to be the sum of what the survivors uploaded and one that honest members can make.

    Raises ModelError, EvidenceError.
    """
    agreement, plan = place.agreement(), place.plan()
    quantiser = agreement.quantiser
    ring = fields.vector("sum", quantiser.dtype.type)
    carries = fields.vector("carries", quantiser.carries.type)
    uploads = {name: fields.raw(f"upload.{name}") for name in opened.survivors if f"upload.{name}" in fields}
    lengths = opened.require_sum(
        member.membership, agreement, fields.blob("evidence"), ring, carries, uploads, threads=THREADS
    )
    totals = quantiser.decode(ring)
    try:
        require_honest_mean(plan, totals, survivors=len(opened.survivors))
        require_honest_lengths(plan, quantiser, lengths)
    except NormError as error:
        raise ModelError(error.message) from error
    return totals


def serve(member: Member) -> None:
    """Writes the newest release, or the public base where there is none yet, for the completion server.

    The completion engine runs our own architecture. Adapters of a Hugging Face base are written to `adapter/` in
    PEFT's format, for an engine that runs that base; the public base completes meanwhile.
    """
    number = max(0, member.newest_release())
    config, parameters = member.config, member.parameters
    if member.newest_release() >= 0 and member.releases.holds(number):
        parameters = unflatten(config, parameters, member.releases.vector(number))
    if isinstance(config, HuggingFaceConfig):
        write_adapter(member.folder / "adapter", config, parameters)
        config, _, parameters = base.load()
    with as_file(files("sordino_platform") / "base" / "tokenizer.json") as tokenizer:
        plain = without_adapters(config)
        write_serving_bundle(
            member.folder / "completion" / "serving", plain, merged(parameters), tokenizer, release=number
        )
    member.metrics.model_version.set(number)
