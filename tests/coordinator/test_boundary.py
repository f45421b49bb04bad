"""The one boundary: whatever a reply raises costs its member only, with the reason, and a member's words stay out."""

from __future__ import annotations

from functools import partial

import pytest
from flwr.app import Message
from tests.federation.forged import FORGERIES
from tests.federation.inprocess import joined

from sordino_coordinator.boundary import Answered, LostMember, MemberReply, judge
from sordino_coordinator.metrics import Dropped, RejectionReason
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import HELLO, pack
from sordino_platform.offer import OfferAnswer
from sordino_privacy.errors import StorageError
from sordino_privacy.secagg import CheatError, IdentityError, ReplayError

SECRET = "4111-1111"


@pytest.fixture(autouse=True)
def _identified() -> None:
    shim.identify(run=1, node=shim.COORDINATOR_NODE)


def hello() -> bytes:
    present = OfferAnswer(member="alder", release=3, epoch=1, unready=None, head=b"")
    message = Message(pack(present.fields()), 2**40, HELLO)
    shim.stamp(message)
    return joined(encode_message(message))


def judged(payload: bytes) -> Answered | LostMember:
    def accept(answer: MemberReply) -> None:
        OfferAnswer.parse(answer.fields)

    return judge("alder", partial(decode_message, payload), accept, seconds=1.0)


def test_a_true_answer_passes() -> None:
    assert judged(hello()) == Answered(member="alder", seconds=1.0)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_answer_is_lost_with_its_reason_and_nothing_in_it_is_unexpected(forgery: str) -> None:
    lost = judged(FORGERIES[forgery](hello()))
    assert isinstance(lost, LostMember)
    assert (lost.reason, lost.rejected) == (Dropped.INVALID, RejectionReason.SCHEMA)
    assert lost.error.isprintable()
    assert len(lost.error) <= 300


def raising(error: BaseException) -> Answered | LostMember:
    def accept(_: MemberReply) -> None:
        raise error

    return judge("alder", partial(decode_message, hello()), accept, seconds=0.0)


def test_an_exception_that_nobody_expected_is_named_by_class_and_place_and_not_by_its_words() -> None:
    for error in (KeyError(SECRET), RecursionError(SECRET), MemoryError(SECRET), AssertionError(SECRET)):
        lost = raising(error)
        assert isinstance(lost, LostMember)
        assert lost.rejected is RejectionReason.UNEXPECTED
        assert lost.error.startswith(f"{type(error).__name__} at test_boundary.py:")
        assert SECRET not in lost.error


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (CheatError("x", culprit="alder"), RejectionReason.SIGNATURE),
        (IdentityError("x"), RejectionReason.UNKNOWN_CLIENT),
        (ReplayError("x"), RejectionReason.REPLAY),
    ],
)
def test_a_refusal_keeps_its_label(error: Exception, label: RejectionReason) -> None:
    lost = raising(error)
    assert isinstance(lost, LostMember)
    assert lost.rejected is label


def test_a_full_disk_is_nobodys_fault_but_this_sides() -> None:
    with pytest.raises(StorageError):
        raising(StorageError("the disk is full"))


def test_a_members_words_cannot_drive_a_terminal() -> None:
    lost = raising(IdentityError("\x1b[2J" + "x" * 5000))
    assert isinstance(lost, LostMember)
    assert "\x1b" not in lost.error
    assert len(lost.error) <= 300


def test_an_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        raising(KeyboardInterrupt())
