"""Stores the epochs and releases that a member has decided to take over: the one place that does so.

The caller of `adopt` has checked everything (agreement.py, result.py) and asked the member's owner.
"""

from __future__ import annotations

from dataclasses import dataclass

from sordino_client.round.folder import RoundFolder
from sordino_client.round.member import Member
from sordino_client.round.serving import serve
from sordino_client.round.tenures import keep_judged
from sordino_platform.architecture import Vector
from sordino_platform.charter import Charter, SignedCharter
from sordino_platform.following import Followed, Holdings
from sordino_platform.release.manifest import Charters, SignedManifest
from sordino_platform.telemetry import log
from sordino_platform.tenure import SignedTenure
from sordino_privacy.secagg import Membership, ModelError, Step, VerifiedRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Epochs and releases that passed every check. `charter` is the one in force with them; `followed` is None
    where the newest release is held already, and `tenure` where the coordinator's is. `coming` are the releases before
    `followed` whose manifests were sent ahead of it, in parts."""

    charters: tuple[bytes, ...]
    charter: Charter
    membership: Membership
    followed: Followed | None
    coming: tuple[SignedManifest, ...] = ()
    tenure: SignedTenure | None = None


def held(member: Member, charters: Charters) -> Holdings:
    """The releases and charters that this member has, for the checks of a release."""
    releases = member.releases
    chain = releases.chain()
    coming = member.coming.after(chain, charters)

    def vector(wanted: bytes) -> Vector | None:
        for signed in reversed(chain):
            number = signed.manifest.number
            if signed.manifest.vector_hash == wanted and releases.holds(number):
                return releases.vector(number)
        return None

    def agrees(record: VerifiedRecord) -> None:
        """Refuses a record whose survivors are not those that this member signed in that round, or whose nonces are not
        those among which it found its own when it revealed."""
        context = record.context
        entries = member.ledger.entries(context.federation, context.run, context.round)
        if any(entry.step is Step.SPENT and entry.digest != record.bound for entry in entries):
            raise ModelError("the record is of another set of survivors than this member signed")
        place = RoundFolder.of(member.folder, context.run, context.round)
        mine = place.opened()
        if mine is not None and not record.opened.same_as(mine):
            raise ModelError("the record is of another opening than the one in which this member revealed")

    return Holdings(
        chain=(*chain, *coming),
        charters=charters,
        parameters=member.parameters,
        vector=vector,
        remembers=releases.remembers,
        agrees=agrees,
    )


def adopt(member: Member, adoption: Adoption) -> None:
    """Keeps the coordinator's tenure, the epochs, then the releases, and serves the newest model.

    What the member already holds changes nothing. Raises StorageError; whatever was stored before it was checked, and
    the rest comes again with the next proposal.
    """
    keep_judged(member, adoption.tenure)
    charters = member.identity.charters
    for data in adoption.charters:
        offered = SignedCharter.parse(data, root=charters.root).charter
        if (
            offered.epoch > charters.head().charter.epoch
        ):  # else it was accepted here by command, or sent again
            charters.accept(data)
    take_epoch(member, adoption.charter, adoption.membership)
    if adoption.followed is None:
        return
    *others, newest = adoption.followed.manifests
    member.releases.accept_manifests([*adoption.coming, *others])
    number = member.releases.accept(newest.to_bytes(), adoption.followed.vector).number
    if adoption.followed.memory is not None:
        member.releases.keep_memory(adoption.followed.memory)
    member.coming.clear()
    member.releases.prune()
    log().info("release", member=member.name, round=newest.manifest.round, release=number)
    serve(member)


def take_epoch(member: Member, charter: Charter, membership: Membership) -> None:
    """Takes over the members, keys, floors and privacy policy of an epoch that this folder holds."""
    if charter.hash() == member.charter.hash():
        return
    member.charter, member.membership = charter, membership
    largest = min(member.settings.budget_epsilon, charter.privacy.largest_epsilon)
    member.ledger.limit(largest)
    member.metrics.budget.set(largest)
    log().info("epoch_adopted", member=member.name, count=len(charter.members))
