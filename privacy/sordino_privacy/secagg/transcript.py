"""The public history of a federation: one record per opened sum, each chained to the one before by its hash.

A record holds what the members signed: the context, the roster, U2, U3, the quorum, with every signature; and the
hashes of the sum and of the model that followed. Anybody with the records and the charters can check, without trusting
the coordinator, that each sum was over members who agreed on everything, and that no record was changed, dropped from
the middle or reordered. Missing records at the end are found by comparison with a head that a member kept.

    record = session.record(previous_head, new_model_hash)
    head = transcript_head(record)
    verify_transcript(records, {charter_hash: membership, ...}).head == head
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from sordino_privacy.secagg.context import MAX_CONTEXT_BYTES, RoundContext
from sordino_privacy.secagg.encoding import (
    HASH_BYTES,
    MAX_MESSAGE_BYTES,
    MessageReader,
    Writer,
    digest,
    require_increasing,
)
from sordino_privacy.secagg.evidence import Opened
from sordino_privacy.secagg.journal import bound
from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.refusals import SecaggError, TranscriptError
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.shares import Statement
from sordino_privacy.secagg.survivors import Assent, Claim, Opening, require_signers, require_survivors
from sordino_privacy.secagg.upload import u2_digest

KIND = 12
GENESIS = bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One opened sum. `context`, `roster` and `claim` are the messages as the members saw them."""

    previous: bytes
    context: bytes
    roster: bytes
    statements: tuple[Statement, ...]
    claim: bytes
    assents: tuple[Assent, ...]
    sum_hash: bytes
    new_model_hash: bytes

    def encode(self) -> bytes:
        """The record as members keep and hash it: see docs/protocol.md."""
        writer = (
            Writer(KIND).raw(self.previous).blob(self.context).blob(self.roster).u16(len(self.statements))
        )
        for statement in self.statements:
            statement.write(writer)
        writer.blob(self.claim).u16(len(self.assents))
        for assent in self.assents:
            assent.write(writer)
        return writer.raw(self.sum_hash).raw(self.new_model_hash).done()

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises MalformedError."""
        reader = MessageReader(message, KIND, limit=4 * MAX_MESSAGE_BYTES)
        record = cls(
            previous=reader.raw(HASH_BYTES),
            context=reader.blob(limit=MAX_CONTEXT_BYTES),
            roster=reader.blob(limit=MAX_MESSAGE_BYTES),
            statements=tuple(Statement.read(reader) for _ in range(reader.count())),
            claim=reader.blob(limit=MAX_MESSAGE_BYTES),
            assents=tuple(Assent.read(reader) for _ in range(reader.count())),
            sum_hash=reader.raw(HASH_BYTES),
            new_model_hash=reader.raw(HASH_BYTES),
        )
        reader.end()
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRecord:
    """What a verified record proves: a quorum of the members agreed on `context` and opened the sum of exactly
    `survivors`. `bound` is what each of them wrote into its journal when it signed that set. Each of them checked,
    before it began, that `context.model_hash` is the hash of the model that it holds, so the record vouches for that
    model too. The record's `sum_hash` and `new_model_hash` are only claims of the coordinator; the evidence of the sum
    itself is checked against `opened`.
    """

    record: Record
    context: RoundContext
    survivors: tuple[str, ...]
    bound: bytes
    opened: Opened


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a verified transcript says: how many sums, the newest model, and the head to compare with that of others."""

    records: int
    head: bytes
    model_hash: bytes


def transcript_head(record: bytes) -> bytes:
    """The hash that the next record chains to, and that members keep."""
    return digest("transcript", record)


def sum_digest(vector: RingVector) -> bytes:
    """The hash of an opened ring sum that its record holds, 32 bytes."""
    return digest("sum", sha256(vector.data).digest())


def verify_transcript(records: Iterable[bytes], memberships: Mapping[bytes, Membership]) -> History:
    """Checks a whole history. `memberships` maps the hash of each charter to its membership.

    Raises TranscriptError naming the record (counted from 1) and what is wrong with it.
    """
    head, model, place, count = GENESIS, b"", ("", -1, -1), 0
    for count, message in enumerate(records, 1):
        try:
            record = Record.decode(message)
            if record.previous != head:
                raise TranscriptError("it does not follow the record before it")
            context = verify_record(record, memberships).context
        except SecaggError as error:
            raise TranscriptError(
                f"record {count} of the transcript does not verify: {error.message}", hint=error.hint
            ) from error
        run, round_before, epoch_before = place
        if context.epoch < epoch_before:
            raise TranscriptError(
                f"record {count} of the transcript goes back to charter epoch {context.epoch}"
            )
        if context.run == run:
            if context.round <= round_before:
                raise TranscriptError(
                    f"record {count} of the transcript repeats or goes back to round {context.round}"
                )
            if context.model_hash != model:
                raise TranscriptError(
                    f"record {count} of the transcript does not start from the model before it"
                )
        head, model = transcript_head(message), record.new_model_hash
        place = context.run, context.round, context.epoch
    return History(records=count, head=head, model_hash=model)


def verify_record(record: Record, memberships: Mapping[bytes, Membership]) -> VerifiedRecord:
    """Checks one record by itself: every signature in it, the floors, the quorum. `memberships` as above.

    Raises TranscriptError and what the parsers of its parts raise.
    """
    context = RoundContext.decode(record.context)
    membership = memberships.get(context.charter_hash)
    if membership is None:
        raise TranscriptError("its charter is not among those given")
    context.require_floors(membership)
    roster = Roster.decode(record.roster, membership, context)
    u2 = tuple(statement.sender for statement in record.statements)
    require_increasing(u2)
    if not set(u2) <= roster.positions.keys() or len(u2) < roster.numbers.quorum:
        raise TranscriptError("U2 is not within the roster, or below the quorum")
    for statement in record.statements:
        statement.verify(membership, roster.hash)
    claim, u2_hash = Claim.decode(record.claim), u2_digest(u2)
    u3 = set(claim.survivors)
    if claim.roster_hash != roster.hash or not u3 <= set(u2) or set(claim.dropped) != set(u2) - u3:
        raise TranscriptError("U3 is of another attempt, or not U2 without the dropped members")
    require_survivors(roster, membership, context, u3)
    for receipt in claim.receipts:
        if receipt.u2_hash != u2_hash:
            raise TranscriptError(f"{receipt.sender!r} uploaded under another U2")
        receipt.verify(membership, roster.hash)
    signers = tuple(assent.sender for assent in record.assents)
    require_increasing(signers)
    if not set(signers) <= u3 or len(signers) < roster.numbers.quorum:
        raise TranscriptError("the signers are not survivors, or below the quorum")
    require_signers(roster, membership, context, u3, set(signers))
    u3_hash = claim.u3_hash()
    for assent in record.assents:
        assent.verify(membership, roster.hash, u2_hash, u3_hash, claim.total_hash)
    return VerifiedRecord(
        record=record,
        context=context,
        survivors=claim.survivors,
        bound=bound(roster.hash, u2_hash, u3_hash, claim.total_hash),
        opened=Opened(
            roster=record.roster,
            claim=record.claim,
            # The record does not need who was asked for which shares, only the signatures and their nonces.
            opening=Opening(roster_hash=roster.hash, assents=record.assents, alive=(), dropped=()).encode(),
        ),
    )
