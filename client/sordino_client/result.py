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
from sordino_platform.proposal import require_honest_mean
from sordino_platform.release import SignedManifest, next_model, write_serving_bundle
from sordino_platform.telemetry import log
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import ModelError, NormError


def take(member: Member, fields: Fields) -> int:
    """Repeats the coordinator's arithmetic and keeps the release; returns the newest number held.

    A member that did not see the round through learns the release with its next proposal. Raises ModelError when
    the opened sum does not lead to the signed model: such a coordinator cannot be trusted.
    """
    run, round = fields.text("run"), fields.integer("round")
    manifest = fields.blob("manifest")
    place = RoundFolder.of(member.folder, run, round) if is_round(run, round) else None
    if place is None or not place.agreed:
        fields.drop()
        return member.newest_release()
    agreement = place.agreement()
    ring = fields.vector("sum", agreement.quantiser.dtype.type)
    totals = agreement.quantiser.decode(ring)
    try:
        made = SignedManifest.parse(manifest).manifest
        require_honest_mean(place.plan(), totals, survivors=len(made.members))
    except (ConfigurationError, NormError) as error:
        raise ModelError(error.message) from error
    step = totals.mean()
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
