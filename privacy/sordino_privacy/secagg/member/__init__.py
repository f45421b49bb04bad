"""A member's side of one attempt: bytes in, bytes out, and every check that a member must make.

    session = MemberSession(me, signing_key, membership, context, journal, entropy)
    session.advertise()                    -> advertisement
    session.share(roster)                  -> sealed shares
    session.upload(delivery, quantised)    -> frames of the masked update, header first, signature last
    session.muster(claim)                  -> presence    } of a large cohort, before it signs;
    session.sound(draw, quantised)         -> sketch      } and again without those who did not answer
    session.survivors(claim)               -> assent
    session.unmask(opening, quantised)     -> shares and a sketch of the upload; then every secret is gone
    session.opened                         -> what shows later that a published sum is the opened one

Rules that hold throughout:
* The member computes everything it can itself, and only compares it with what the coordinator claims.
* What must be remembered is durable (journal) before its effect leaves.
* A message for another phase is refused and changes nothing; any other refusal ends the session and erases its secrets,
  because no later message could make the attempt trustworthy again.
* If the last answered request is sent again after a broken link, it gets the same bytes as before, except for the
  reveal, which happens once.

Erasure drops the only references to the secrets; Python cannot promise that no copy stays in freed memory.

    sharing     phases 1 and 2: the roster is checked, and both seeds are shared among the holders
    receiving   phase 3: the others' shares are checked and opened
    masking     phase 3: the masks of an upload, and its frames
    consent     phases 4 and 5: what a member checks before it signs a set of survivors, and before it reveals
    recording   what must be in the journal before a step is taken
    state       what a session holds, and its form for moving it between processes
    session     the order of all these
"""

from sordino_privacy.secagg.member.masking import Frame
from sordino_privacy.secagg.member.session import MemberSession
from sordino_privacy.secagg.member.state import SessionPhase

__all__ = ["Frame", "MemberSession", "SessionPhase"]
