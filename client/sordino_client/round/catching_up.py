"""Takes a part of a long history that the coordinator sends: verified, kept beside the releases, and not used for
anything yet."""

from __future__ import annotations

from sordino_client.round.member import Member
from sordino_client.round.participation import UnwillingError
from sordino_client.round.tenures import require_tenure
from sordino_platform.catching_up import HistoryPart
from sordino_platform.telemetry import log
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import ModelError


def take_part(member: Member, part: HistoryPart) -> int:
    """Keeps the part's manifests and returns the number of the release that this member wants next.

    A part that does not begin with the release that it wants is ignored. Raises SupersededError (the message is of a
    machine that was replaced), UnwillingError (the owner takes part in nothing now), ModelError for a manifest that
    does not follow, PolicyError for too many, StorageError.
    """
    require_tenure(member, part.tenure)
    if not member.participation.ready:
        raise UnwillingError("this member takes part in no round now, and so needs no release")
    charters = member.identity.charters.with_offered(part.charters)
    held = member.releases.chain()
    wanted = len(held) + len(member.coming.after(held, charters))
    if not part.manifests or part.first != wanted:
        return wanted
    try:
        member.coming.take(held, part.manifests, charters)
    except ConfigurationError as error:
        raise ModelError(f"the history is refused: {error.message}", hint=error.hint) from error
    wanted += len(part.manifests)
    log().info("catching_up", member=member.name, release=wanted - 1, count=part.newest)
    return wanted
