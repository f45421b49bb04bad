"""The member's side of a round, as a Flower `ClientApp`: one function per phase, each a thin door onto the session.

The same object runs in the agent (over our link), in Flower's simulation engine, and under a stock SuperNode. Between
two messages the session is put away (sessions.py); the update itself stays in the member's folder.

What goes back on a failure is one word of a closed set (refusal.py): an exception's text may speak of the data.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from sordino_client.round.addressee import addressee_of
from sordino_client.round.adoption import adopt
from sordino_client.round.agreement import decide
from sordino_client.round.catching_up import take_part
from sordino_client.round.contribution import contribute, give_back, require_willing, uploaded
from sordino_client.round.epochs import EpochWaitsError, consider_epochs
from sordino_client.round.folder import RoundFolder
from sordino_client.round.heads import compare_head, signed_head
from sordino_client.round.history import answer
from sordino_client.round.member import Member
from sordino_client.round.readiness import unready
from sordino_client.round.refusal import word_of
from sordino_client.round.result import take
from sordino_client.round.sessions import (
    AGREEMENT,
    SECRETS,
    TENURE,
    begin_session,
    forget_session,
    keep_session,
    keep_session_if_current,
    kept_session,
)
from sordino_client.round.tenures import accept_tenure, require_tenure
from sordino_platform.catching_up import HistoryPart
from sordino_platform.charter import ended_by
from sordino_platform.charter.waiting import keep_waiting
from sordino_platform.flower.phases import Fields, Phase, Scalar, Vector, pack
from sordino_platform.history import Question
from sordino_platform.link import StreamedPart
from sordino_platform.offer import Offer, OfferAnswer, Unready
from sordino_platform.proposal import Proposal
from sordino_platform.provenance import Provenance
from sordino_platform.tracing import TracedStep
from sordino_privacy.secagg import BadParcelError, MemberSession, RoundContext

REFUSED = 1

THREADS = 2

Reply = tuple[Mapping[str, Scalar], Mapping[str, Vector | StreamedPart]]
Handler = Callable[[Member, Fields, Context], Reply]

app = ClientApp()


def phase(handle: Handler) -> Callable[[Message, Context], Message]:
    """Makes a Flower function of a handler: it opens the member, parses the message, answers, and forgets the session
    on a refusal."""

    @functools.wraps(handle)
    def answer(message: Message, context: Context) -> Message:
        with addressee_of(context) as member:
            try:
                with traced(member, message):
                    fields = Fields(message)
                    scalars, vectors = handle(member, fields, context)
                    fields.done()
            except Exception as error:  # noqa: BLE001 - Flower would send the text of whatever passes here
                forget_session(member, context)
                member.refused(error)
                member.participation.tidy()
                return Message(Error(REFUSED, word_of(error)), reply_to=message)
        return Message(pack(scalars, vectors), reply_to=message)

    return answer


def traced(member: Member, message: Message) -> AbstractContextManager[object]:
    """The member's span of a phase; none for a message that belongs to no round."""
    kind, _, phase = message.metadata.message_type.partition(".")
    number = message.metadata.group_id
    if kind != "train" or not number.isdecimal():
        return nullcontext()
    return member.traces.step(TracedStep(f"member.{phase}"), run=message.metadata.run_id, round=int(number))


def kept(member: Member, context: Context) -> tuple[RoundContext, MemberSession]:
    """The session that was put away. Raises OrderError when there is none, SupersededError when another machine has
    taken the coordinator's place since."""
    record = kept_session(member, context)
    agreement = RoundContext.decode(record[AGREEMENT])
    require_tenure(member, record[TENURE])
    member.participation.require_willing(wanted=(agreement.run, agreement.round, agreement.train_config_hash))
    session = MemberSession.restore(record[SECRETS], *member.session_arguments(agreement))
    require_untouched(member, agreement, session)
    return agreement, session


def require_untouched(member: Member, agreement: RoundContext, session: MemberSession) -> None:
    """Raises EpochWaitsError when an epoch that was accepted during the round makes it another one."""
    charters = member.identity.charters.epochs()
    begun_under = charters.by_hash(agreement.charter_hash)
    why = ended_by(begun_under, charters.head(), session.cohort or (member.name,))
    if why is not None:
        raise EpochWaitsError(why, hint="the next round is under the new one")


@app.query("hello")
@phase
def hello(member: Member, fields: Fields, context: Context) -> Reply:
    """Answers an offer: who this member is, what it holds, and whether it is ready for the round, or why not.

    On our own link the name must be the certificate's.
    """
    offer = Offer.parse(fields)
    if held := accept_tenure(member, offer.tenure):
        refused = OfferAnswer(
            member=member.name,
            release=member.newest_release(),
            epoch=member.identity.charter.epoch,
            unready=Unready.SUPERSEDED,
            head=b"",
            tenure=held,
        )
        return refused.fields(), {}
    compare_head(member, offer.head)
    consider_epochs(member, offer.charters)
    member.participation.offered(offer)
    if not member.participation.paused:
        give_back(member, keep=lambda run, round: (run, round) == (offer.run, offer.round))
    present = OfferAnswer(
        member=member.name,
        release=member.newest_release(),
        epoch=member.identity.charter.epoch,
        unready=unready(member, offer),
        head=signed_head(member),
    )
    return present.fields(), {}


@app.query("history")
@phase
def history(member: Member, fields: Fields, context: Context) -> Reply:
    """Sends charters, manifests or a release's vector to a coordinator that was restored from a backup."""
    return answer(member, Question.parse(fields))


@app.query("catch_up")
@phase
def catch_up(member: Member, fields: Fields, context: Context) -> Reply:
    """Verifies and keeps a part of the history that this member lacks, and says which release it wants next."""
    return {"next": take_part(member, HistoryPart.parse(fields))}, {}


@app.train(Phase.TRAIN)
@phase
def train(member: Member, fields: Fields, context: Context) -> Reply:
    """Checks the proposal against charter, person and budget, takes over what it brings, trains once per round, and
    advertises fresh keys."""
    proposal = Proposal.parse(fields)
    said = proposal.context
    member.participation.require_willing(wanted=(said.run, said.round, proposal.plan.digest()))
    try:
        agreed = decide(member, proposal)
    except EpochWaitsError:
        keep_waiting(member.folder, proposal.charters, member.identity.charters)
        raise
    agreement = agreed.context
    session = MemberSession(*member.session_arguments(agreement, agreed.adoption.membership))
    session.propose(said.encode())
    require_willing(member, proposal, agreed.adoption.membership)
    # Nothing is kept before this line: now every check has passed, and the owner allows the round.
    adopt(member, agreed.adoption)
    contribute(member, proposal, agreed.model)
    advertisement = session.advertise()
    begin_session(member, context, agreement, session, proposal.tenure)
    told: dict[str, Scalar] = {
        "advertisement": advertisement,
        "epsilon": member.epsilon_spent(),
        "head": signed_head(member),
    }
    if member.membership.shares > 1:  # else the two are one
        told["epsilon_if_others_collude"] = member.ledger.spent_alone().value
    return told, {}


@app.train(Phase.SHARE)
@phase
def share(member: Member, fields: Fields, context: Context) -> Reply:
    """Checks the roster, and seals this member's shares for the others."""
    agreement, session = kept(member, context)
    shares = session.share(fields.blob("roster"))
    require_untouched(member, agreement, session)  # only now is it known with whom
    keep_session(member, context, session)
    return {"shares": shares}, {}


@app.train(Phase.UPLOAD)
@phase
def upload(member: Member, fields: Fields, context: Context) -> Reply:
    """Opens the shares and sends the stored update, which is masked slice by slice while it is sent: neither the
    update nor its masked form is ever whole in memory. What was sent is kept on the disk, to be digested."""
    agreement, session = kept(member, context)
    place = RoundFolder.of(member.folder, agreement.run, agreement.round)
    quantised = place.quantised()
    try:
        session.upload(fields.blob("delivery"), quantised)  # every check, and the journal's entry
    except BadParcelError as error:
        # Another member cheated this one. The coordinator is shown the proof, so that the next attempt goes on without
        # the cheater.
        forget_session(member, context)
        member.cheated(error)
        return {"complaint": error.complaint}, {}
    uploaded(member, agreement)
    keep_session(member, context, session)

    def masked() -> Iterator[bytes | memoryview]:
        yield from place.sent.keeping(session.upload_again(quantised, threads=THREADS))
        # Now the session knows what it sent. The coordinator's next message comes after the last byte.
        keep_session_if_current(member, context, agreement, session)

    return {}, {"upload": StreamedPart(nbytes=session.upload_bytes, pieces=masked)}


@app.train(Phase.MUSTER)
@phase
def muster(member: Member, fields: Fields, context: Context) -> Reply:
    """Checks who survived, and says that this member is there."""
    _, session = kept(member, context)
    presence = session.muster(fields.blob("claim"))
    keep_session(member, context, session)
    return {"presence": presence}, {}


@app.train(Phase.SOUND)
@phase
def sound(member: Member, fields: Fields, context: Context) -> Reply:
    """Says, signed, what this member uploaded, before anybody signs who is in the sum."""
    agreement, session = kept(member, context)
    place = RoundFolder.of(member.folder, agreement.run, agreement.round)
    said = session.sound(fields.blob("draw"), place.quantised(), sent=place.sent.read(), threads=THREADS)
    keep_session(member, context, session)
    return {"sounding": said}, {}


@app.train(Phase.SURVIVORS)
@phase
def survivors(member: Member, fields: Fields, context: Context) -> Reply:
    """Checks who survived, marks the round as spent, and signs."""
    _, session = kept(member, context)
    signature = session.survivors(fields.blob("claim"))
    keep_session(member, context, session)
    return {"signature": signature}, {}


@app.train(Phase.UNMASK)
@phase
def unmask(member: Member, fields: Fields, context: Context) -> Reply:
    """With a quorum of signatures, reveals what opens the sum; then the session is gone."""
    agreement, session = kept(member, context)
    place = RoundFolder.of(member.folder, agreement.run, agreement.round)
    reveal = session.unmask(
        fields.blob("opening"), place.quantised(), sent=place.sent.read(), threads=THREADS
    )
    forget_session(member, context)
    place.sent.forget()
    place.reveal(session.opened)
    return {"reveal": reveal}, {}


@app.train(Phase.RESULT)
@phase
def result(member: Member, fields: Fields, context: Context) -> Reply:
    """Repeats the coordinator's arithmetic on the opened sum, and takes the release over if it is the same."""
    return {"release": take(member, Provenance.parse(fields))}, {}
