"""The end of a round at a member: the release is checked, its arithmetic repeated, and it is kept and served."""

from __future__ import annotations

from sordino_client.metrics import ParticipationOutcome
from sordino_client.round.adoption import Adoption, adopt, held
from sordino_client.round.folder import RoundFolder, is_round
from sordino_client.round.member import Member
from sordino_platform.following import follow
from sordino_platform.provenance import Provenance
from sordino_platform.release import Manifest, SignedManifest
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import ModelError


def decide(member: Member, provenance: Provenance) -> Adoption:
    """Makes every check of a round's result, and changes nothing. Raises ModelError when the opened sum does not lead
    to the signed release, or the record does not show that the round's members opened that sum: such a coordinator
    cannot be trusted.
    """
    charters = member.identity.charters.epochs()
    try:
        followed = follow(provenance, held(member, charters))
    except ConfigurationError as error:
        raise ModelError(f"the release is refused: {error.message}", hint=error.hint) from error
    return Adoption(
        charters=(),
        charter=member.charter,
        membership=member.membership,
        followed=followed,
        coming=member.coming.after(member.releases.chain(), charters),
    )


def take(member: Member, provenance: Provenance) -> int:
    """Takes the result of a round that this member agreed to; returns the newest number held.

    A member that took no part learns the release with its next proposal. Raises what `decide` raises,
    RefusalError when the owner does not allow it, and StorageError.
    """
    place = _agreed(member, SignedManifest.parse(provenance.manifests[-1]).manifest)
    if place is None:
        return member.newest_release()
    member.participation.require_willing()
    adoption = decide(member, provenance)
    adopt(member, adoption)
    newest = member.newest_release()
    assert adoption.followed is not None
    round = adoption.followed.newest.round or 0
    member.metrics.participations.labels(ParticipationOutcome.CONTRIBUTED.value).inc()
    # The round is over and its update has no more use; a secret that is not kept cannot be lost.
    place.remove()
    member.participation.ended(round, ParticipationOutcome.CONTRIBUTED.value)
    return newest


def _agreed(member: Member, manifest: Manifest) -> RoundFolder | None:
    """The folder of the release's round, where this member agreed to that."""
    if manifest.round is None or not is_round(manifest.run, manifest.round):
        return None
    place = RoundFolder.of(member.folder, manifest.run, manifest.round)
    return place if place.agreed else None
