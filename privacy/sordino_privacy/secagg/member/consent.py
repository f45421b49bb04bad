"""Phases 4 and 5 at a member: what it checks before it signs a set of survivors, and before it reveals a share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.member.receiving import require_attempt
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.refusals import (
    FloorError,
    IdentityError,
    QuorumError,
    RevealError,
    SurvivorError,
    UploadSignatureError,
)
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.sampling import sampled
from sordino_privacy.secagg.survivors import Claim, Opening, require_signers, require_survivors


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnUpload:
    """What a member knows itself and a claim must agree with: `u2` and its hash, and the trailer of its own upload."""

    me: str
    u2: tuple[str, ...]
    u2_hash: bytes
    receipt: bytes


def require_claim(
    claim: Claim, own: OwnUpload, roster: Roster, membership: Membership, context: RoundContext
) -> None:
    """Refusals 2, 8 and 9: requires that this claim of U3 may be signed.

    Raises ReplayError (another attempt), SurvivorError and FloorError (the set), UploadSignatureError (a receipt),
    IdentityError.
    """
    require_attempt(roster, claim.roster_hash)
    u2, u3, dropped = set(own.u2), set(claim.survivors), set(claim.dropped)
    if own.me in dropped:
        raise SurvivorError("the coordinator lists this member as dropped")
    if own.me not in u3:
        raise SurvivorError("this member is missing from U3")
    if not u3 <= u2:
        raise SurvivorError("U3 names a member that is not in U2")
    if u3 & dropped:
        raise SurvivorError("one member is listed as surviving and as dropped")
    if dropped != u2 - u3:
        raise SurvivorError("the dropped members are not U2 without U3")
    require_survivors(roster, membership, context, u3)
    vouched = roster.vouched(own.me)
    for receipt in claim.receipts:
        if receipt.u2_hash != own.u2_hash:
            raise UploadSignatureError(f"{receipt.sender!r} masked over another U2", culprit=receipt.sender)
        if receipt.sender in vouched:
            receipt.verify(membership, roster.hash)
        if receipt.sender == own.me and receipt.encode() != own.receipt:
            raise SurvivorError("the claim holds another upload of this member than the one it sent")


def require_signers_named(
    request: Opening,
    claim: Claim,
    own: OwnUpload,
    nonce: bytes,
    roster: Roster,
    membership: Membership,
    context: RoundContext,
) -> int:
    """Requires that the signers that the opening names are a quorum and meet every floor, and that this member with its
    `nonce` is among them. No signature is checked here. Raises QuorumError.

    Returns how many of the signatures may be false while the quorum and every floor are still met.
    """
    u3 = set(claim.survivors)
    for assent in request.assents:
        if assent.sender not in u3:
            raise QuorumError(f"{assent.sender!r} signed as a survivor but is none", culprit=assent.sender)
    if len(request.assents) < roster.numbers.quorum:
        raise QuorumError(
            f"{len(request.assents)} survivor signatures are below the quorum of {roster.numbers.quorum}"
        )
    try:
        signers = {assent.sender for assent in request.assents}
        spare = require_signers(roster, membership, context, u3, signers)
    except (SurvivorError, FloorError) as error:
        raise QuorumError(f"the survivor signatures do not meet the floors: {error.message}") from error
    if not any((assent.sender, assent.nonce) == (own.me, nonce) for assent in request.assents):
        raise QuorumError("this member's own assent is missing: the challenge would not be its own")
    return spare


def require_assents(
    request: Opening,
    claim: Claim,
    own: OwnUpload,
    spare: int,
    roster: Roster,
    membership: Membership,
    entropy: Callable[[int], bytes],
) -> None:
    """Raises QuorumError if one of the checked signatures is false. All are checked, or of a large cohort a random
    sample, large enough for all its members together to be sure that at most `spare` are false (`sampling`).

    The sample may be drawn only once in a round, also across restarts: a coordinator that could ask again would ask
    until a draw misses the false ones.
    """
    u3_hash = claim.u3_hash()
    for place in sampled(len(request.assents), spare, roster.numbers, entropy):
        assent = request.assents[place]
        try:
            assent.verify(membership, roster.hash, own.u2_hash, u3_hash, claim.total_hash)
        except IdentityError as error:
            raise QuorumError(f"the survivor signature of {assent.sender!r} is not over this set") from error


def owners_to_reveal(
    request: Opening, claim: Claim, held: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The owners whose b share and whose s share may be revealed. The member computes both itself, from the claim and
    from the owners whose shares it holds (`held`). Raises RevealError unless the request asks for exactly these.
    """
    both = set(request.alive) & set(request.dropped)
    if both:
        raise RevealError(f"both shares of {min(both)!r} were requested")
    strangers = (set(request.alive) | set(request.dropped)) - set(held)
    if strangers:
        raise RevealError(f"a share of {min(strangers)!r} was requested, who is no neighbour of this member")
    alive = tuple(name for name in claim.survivors if name in held)
    dropped = tuple(name for name in claim.dropped if name in held)
    if (request.alive, request.dropped) != (alive, dropped):
        raise RevealError("the requested shares are not those of the agreed survivors and dropped members")
    return alive, dropped
