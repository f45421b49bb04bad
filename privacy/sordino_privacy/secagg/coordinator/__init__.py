"""The coordinator's side of one attempt: it relays, checks, adds up, and opens the sum. It is trusted with nothing.

    session = CoordinatorSession(membership, context)
    session.accept_advertisement(name, message) ...   session.close_advertisements()  -> roster, for every member of U1
    session.accept_shares(name, message) ...          session.close_shares()          -> a delivery per member of U2
    session.accept_upload(name, frames) ...           session.close_uploads()         -> claim, for every member of U3
    while session.must_muster:                        of a large cohort, before it signs (secagg/muster.py)
        session.begin_muster()
        session.accept_presence(name, message) ...    session.close_muster()          -> draw, for all present
        session.accept_sounding(name, message) ...    session.close_soundings()       -> claim, without many silent
    session.accept_survivors(name, message) ...       session.close_survivors()       -> an opening per signer
    session.accept_reveal(name, message) ...          session.open()                  -> AggregateSum, with its evidence
                                                      session.record(head, hash)      -> transcript record

`name` is the sender as the link authenticated it. A refused message leaves the session as it was, and the error's
`culprit` names who is at fault. Whoever has not been accepted when a phase closes has dropped out. When too few are
left, `close_*` and `open` raise AbortedError naming the phase, and the session is over: no partial sum exists.

An honest coordinator runs these checks to name cheaters early. The members do not rely on them.

One module holds one part of the conversation. Each phase is an object that accepts messages and closes into the next
one's starting point:

    cohort      phases 1 and 2: who takes part, and who holds whose shares
    uploading   phase 3: the masked uploads, and the claim of what they add up to
    mustering   before phase 4, of a large cohort: what the survivors uploaded
    agreeing    phase 4: who signed the claim
    opening     phase 5: the revealed shares, and the sum that they open
    session     the order of all these, and what ends it
"""

from sordino_privacy.secagg.coordinator.opening import AggregateSum
from sordino_privacy.secagg.coordinator.session import CoordinatorSession
from sordino_privacy.secagg.coordinator.stage import PerMember, Stage

__all__ = ["AggregateSum", "CoordinatorSession", "PerMember", "Stage"]
