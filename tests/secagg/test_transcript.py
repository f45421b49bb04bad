"""The history of a federation verifies from the records and the charters alone, and any change to it shows."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from tests.secagg.federation import Federation, membership

from sordino_privacy.secagg import (
    GENESIS,
    MalformedError,
    OrderError,
    TranscriptError,
    transcript_head,
    verify_transcript,
)
from sordino_privacy.secagg.survivors import Claim
from sordino_privacy.secagg.transcript import Record


def model(number: int) -> bytes:
    return hashlib.sha256(b"model" + b"." * number).digest()


def history(rounds: int = 3, seed: object = 0) -> list[bytes]:
    records, head = [], GENESIS
    for number in range(rounds):
        federation = Federation(membership(5), round=number, model_hash=model(number), seed=seed)
        federation.complete({"member-0001": "upload"} if number == 1 else None)
        records.append(federation.coordinator.record(head, model(number + 1)))
        head = transcript_head(records[-1])
    return records


CHARTERS = {membership(5).charter_hash: membership(5)}


def test_a_true_history_verifies_and_ends_in_the_newest_model_and_head() -> None:
    records = history()
    verified = verify_transcript(records, CHARTERS)
    assert (verified.records, verified.model_hash) == (3, model(3))
    assert verified.head == transcript_head(records[-1])
    assert verify_transcript([], CHARTERS).head == GENESIS
    assert verify_transcript(records[:2], CHARTERS).head != verified.head


def test_a_record_of_the_suite_before_is_refused_with_what_to_do() -> None:
    older = history(1)[0].replace(b"sordino-secagg/2", b"sordino-secagg/1")
    with pytest.raises(TranscriptError, match="another protocol version") as refused:
        verify_transcript([older], CHARTERS)
    assert "verified by the version of sordino that wrote it" in refused.value.hint


def test_dropping_reordering_or_repeating_records_is_noticed() -> None:
    first, second, third = history()
    for lie in (
        [second, third],
        [first, third],
        [first, third, second],
        [first, second, second],
        [first, first],
    ):
        with pytest.raises(TranscriptError):
            verify_transcript(lie, CHARTERS)


def test_any_flipped_bit_in_the_middle_of_a_history_is_noticed() -> None:
    records = history(2)
    for at in range(0, len(records[0]), 37):
        lie = records[0][:at] + bytes([records[0][at] ^ 4]) + records[0][at + 1 :]
        with pytest.raises(TranscriptError):
            verify_transcript([lie, records[1]], CHARTERS)


def test_records_below_the_quorum_without_survivors_or_under_an_unknown_charter_are_refused() -> None:
    (record,) = history(1)
    parsed = Record.decode(record)
    claim = Claim.decode(parsed.claim)
    lies = [
        replace(parsed, assents=parsed.assents[:3]),
        replace(parsed, assents=(*parsed.assents[:4], parsed.assents[3])),
        replace(parsed, statements=parsed.statements[:3]),
        replace(parsed, claim=replace(claim, receipts=claim.receipts[:2]).encode()),
        replace(parsed, claim=replace(claim, dropped=("member-0001",)).encode()),
        replace(parsed, context=replace(Federation(membership(5)).context, round=9).encode()),
    ]
    for lie in lies:
        with pytest.raises(TranscriptError, match="record 1"):
            verify_transcript([lie.encode()], CHARTERS)
    with pytest.raises(TranscriptError, match="charter"):
        verify_transcript([record], {})
    with pytest.raises(MalformedError):
        Record.decode(record + b"\0")


def test_a_history_that_goes_back_to_an_older_model_round_or_charter_is_refused() -> None:
    def chained(*federations: Federation) -> list[bytes]:
        records, head = [], GENESIS
        for federation in federations:
            federation.complete()
            records.append(federation.coordinator.record(head, model(1)))
            head = transcript_head(records[-1])
        return records

    both = CHARTERS | {membership(5, epoch=2).charter_hash: membership(5, epoch=2)}
    one = Federation(membership(5), round=1, model_hash=model(0))
    with pytest.raises(TranscriptError, match="does not start from the model"):
        verify_transcript(chained(one, Federation(membership(5), round=2, model_hash=model(0))), both)
    one = Federation(membership(5), round=1, model_hash=model(0))
    with pytest.raises(TranscriptError, match="goes back to round"):
        verify_transcript(chained(one, Federation(membership(5), round=0, model_hash=model(1))), both)
    one = Federation(membership(5, epoch=2), round=1, model_hash=model(0))
    with pytest.raises(TranscriptError, match="epoch"):
        verify_transcript(chained(one, Federation(membership(5), round=2, model_hash=model(1))), both)


def test_there_is_no_record_of_a_sum_that_was_not_opened() -> None:
    federation = Federation(membership(5))
    federation.until("unmask")
    with pytest.raises(OrderError):
        federation.coordinator.record(GENESIS, model(1))
