"""An evil coordinator, which subclasses the real one, for the tests of refusals 1 to 15.

It knows everything a coordinator knows, may alter any message it sends, and owns the identity keys of the colluding
members. Each test says which lie it tells; the honest member must refuse, by name, before anything leaves that would
help it, and must hold no secret afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from tests.secagg.federation import Federation, SeededEntropy, membership

from sordino_privacy.secagg import (
    CoordinatorSession,
    MemberSession,
    PerMember,
    RoundContext,
    SecaggError,
    SessionPhase,
    Step,
    keys,
)
from sordino_privacy.secagg.graph import quorum
from sordino_privacy.secagg.roster import Advertisement, Roster
from sordino_privacy.secagg.shares import Delivery
from sordino_privacy.secagg.survivors import Claim, Opening
from sordino_privacy.signing import Signer

VICTIM, ACCOMPLICE, OTHER = "member-0000", "member-0004", "member-0002"


class EvilCoordinator(CoordinatorSession):
    """Runs the honest code, and alters what it sends by one function per message (all but the roster and the claim,
    which are the same for everyone, only towards the victim)."""

    lies: ClassVar[Mapping[str, Callable[..., Any]]] = {}

    @property
    def u2(self) -> tuple[str, ...]:
        """Once the uploads are closed."""
        assert self._claimed is not None
        return self._claimed.shares.u2

    def close_advertisements(self) -> bytes:
        message = super().close_advertisements()
        if "roster" not in self.lies:
            return message
        lie: Roster = self.lies["roster"](self, self.roster)
        return lie.encode()

    def close_shares(self) -> PerMember:
        messages = dict(super().close_shares())
        if "delivery" in self.lies:
            lie: Delivery = self.lies["delivery"](self, Delivery.decode(messages[VICTIM], VICTIM))
            messages[VICTIM] = lie.encode()
        return PerMember(messages, b"", messages.__getitem__)

    def close_uploads(self) -> bytes:
        message = super().close_uploads()
        if "claim" not in self.lies:
            return message
        lie: Claim = self.lies["claim"](self, Claim.decode(message))
        return lie.encode()

    def close_survivors(self) -> PerMember:
        messages = dict(super().close_survivors())
        if "opening" in self.lies:
            lie: Opening = self.lies["opening"](self, Opening.decode(messages[VICTIM]))
            messages[VICTIM] = lie.encode()
        return PerMember(messages, b"", messages.__getitem__)


def both_shares_of_one(coordinator: EvilCoordinator, opening: Opening) -> Opening:
    """A lie: OTHER is asked for as a survivor and as one that dropped out, which would open its upload."""
    return replace(opening, dropped=tuple(sorted({*opening.dropped, OTHER})))


def victim_refuses(
    refusal: type[SecaggError],
    phase: str,
    count: int = 5,
    drop: Mapping[str, str] | None = None,
    **lies: Callable[..., Any],
) -> SecaggError:
    """Drives honest members up to `phase`, where the evil coordinator's lie meets the victim."""
    evil = type("Evil", (EvilCoordinator,), {"lies": lies})
    federation = Federation(membership(count), coordinator_type=evil)
    message, present = federation.until(phase, drop)
    assert VICTIM in present
    session = federation.members[VICTIM]
    before = list(federation.journals[VICTIM].rows)
    with pytest.raises(refusal) as refused:
        answer(federation, phase, message)
    assert type(refused.value) is refusal
    assert session.phase is SessionPhase.ABORTED
    assert set(vars_of(session)) <= {b"", (), 0, SessionPhase.ABORTED}
    if phase in ("survivors", "unmask"):
        # Of an opening the member writes down that it answers this one and no other, before it looks at signatures.
        rows = federation.journals[VICTIM].rows
        assert rows[: len(before)] == before
        assert {row.step for row in rows[len(before) :]} <= ({Step.REVEALED} if phase == "unmask" else set())
    return refused.value


def vars_of(session: MemberSession) -> list[object]:
    """All values that the session still holds beside its configuration; a dict of shares must be empty."""
    state = session._state
    assert state.held == {}
    return [getattr(state, name) for name in state.__slots__ if name != "held"]


def answer(federation: Federation, phase: str, message: object, name: str = VICTIM) -> bytes:
    session = federation.members[name]
    if phase == "share":
        assert isinstance(message, bytes)
        return session.share(message)
    if phase == "survivors":
        assert isinstance(message, bytes)
        return session.survivors(message)
    assert isinstance(message, Mapping)
    if phase == "upload":
        return b"".join(bytes(frame) for frame in session.upload(message[name], federation.updates[name]))
    return session.unmask(message[name], federation.updates[name])


def advertisement(name: str, key: Signer, context: RoundContext, seed: object = "evil") -> Advertisement:
    entropy = SeededEntropy((seed, name))
    return Advertisement(
        ctx=context.digest(),
        name=name,
        exchange=keys.public_key(entropy(32)),
        masking=keys.public_key(entropy(32)),
        commitment=entropy(32),
        nonce=entropy(32),
    ).signed(key)


def replaced(roster: Roster, *entries: Advertisement, without: str = "", honest: int = 2) -> Roster:
    """The roster with entries replaced or added by name; thresholds recomputed, as a careful liar would who knows
    how many colluders the charter allows for."""
    by_name = {entry.name: entry for entry in roster.entries if entry.name != without}
    by_name |= {entry.name: entry for entry in entries}
    ordered = tuple(entry for _, entry in sorted(by_name.items()))
    signatures = quorum(len(ordered), corrupt=roster.numbers.corrupt, honest=honest)
    numbers = replace(
        roster.numbers, members=len(ordered), quorum=signatures, threshold=signatures, degree=len(ordered) - 1
    )
    return replace(roster, entries=ordered, numbers=numbers)


def without(*gone: str) -> Callable[[EvilCoordinator, Claim], Claim]:
    """A lie about the survivors: the named members dropped out, whatever they did."""

    def lie(self: EvilCoordinator, claim: Claim) -> Claim:
        receipts = tuple(receipt for receipt in claim.receipts if receipt.sender not in gone)
        return replace(claim, receipts=receipts, dropped=tuple(sorted({*claim.dropped, *gone})))

    return lie
