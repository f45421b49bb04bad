"""A member with a true certificate sends the real coordinator, over real TLS, what no honest member sends.

It costs that member only: the process lives, the honest complete every round, and who sent it is named and counted.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from tests.coordinator.crew import federation
from tests.coordinator.test_faults import rounds
from tests.federation import inprocess
from tests.federation.forged import FORGERIES, Forge, fields, joined, parts

from sordino_coordinator.control.audit import Action, read_lines
from sordino_coordinator.rounds import Outcome
from sordino_platform.flower.phases import HELLO, Phase
from sordino_platform.link.messages import Payload
from sordino_privacy.secagg import judge_complaint, merkle
from sordino_privacy.secagg.shares import Shares, Statement
from sordino_privacy.signing import Signer

EVIL = "elm"
EXCHANGES = (Phase.TRAIN, Phase.SHARE, Phase.UPLOAD, Phase.SURVIVORS, Phase.UNMASK)
HARMLESS_IN_A_ROUND = {
    "negative numbers",
    "enormous numbers",
}  # no exchange of a round carries a whole number
TO_THE_GREETING = (
    "a dtype that numpy takes for code",
    "150,000 dimensions",
    "metrics where vectors belong",
    "negative numbers",
)
LARGER_THAN_A_GREETING = {"150,000 dimensions"}  # refused by the link, before a byte of it was read


def test_whatever_one_member_sends_in_any_phase_the_honest_complete_every_round(
    place: Path, tmp_path: Path
) -> None:
    lies = [lie for name, lie in FORGERIES.items() if name not in HARMLESS_IN_A_ROUND]
    told = [(phase.message_type, lie) for phase, lie in zip(EXCHANGES * 2, lies, strict=False)]
    hellos = iter([FORGERIES[name] for name in TO_THE_GREETING])
    waiting = list(told)

    def forge(kind: str, name: str, honest: Payload) -> Payload:
        if name != EVIL:
            return honest
        if kind == HELLO:
            lie = next(hellos, None)
            if lie is not None:
                return lie(inprocess.joined(honest))
        elif waiting and waiting[0][0] == kind:
            return waiting.pop(0)[1](inprocess.joined(honest))
        return honest

    # A round waits for all five, so that the evil one is in each; its lies to the greeting come first.
    settings = {"rounds": len(told), "exchange_seconds": 30.0, "gather_seconds": 600.0}
    with federation(place, tmp_path / "log", **settings) as (hub, crew):
        crew.answers = forge
        assert hub.wait(500) == 0
        events = hub.events()
    rows = rounds(hub.folder)
    honest = tuple(name for name in inprocess.NAMES if name != EVIL)
    assert [row.outcome for row in rows] == [Outcome.COMPLETED] * len(told)
    for row, (kind, _) in zip(rows, told, strict=True):
        assert row.dropped == {EVIL: "invalid"}
        assert set(honest) <= set(row.members)
        # After its upload its update is in the sum, whatever it does then.
        assert (EVIL in row.members) == (kind in (Phase.SURVIVORS.message_type, Phase.UNMASK.message_type))
    refusals = [event for event in events if event["event"] == "hello_refused"]
    left = [name for name in TO_THE_GREETING if name not in LARGER_THAN_A_GREETING]
    assert [event["member"] for event in refusals] == [EVIL] * len(left)
    ended = [
        event for event in events if event["event"] == "member_disconnected" and event["reason"] == "protocol"
    ]
    assert {event["member"] for event in ended} == {EVIL}
    dropped = [event for event in events if event["event"] == "member_dropped"]
    assert {event["member"] for event in dropped} == {EVIL}
    assert not [event for event in itertools.chain(refusals, dropped) if " at " in str(event["error"])]


def shares_that_do_not_open(key: Signer) -> Forge:
    """The evil member's true message of shares, with every parcel to another made unreadable, and signed anew."""

    def forge(payload: bytes) -> bytes:
        message, vectors = parts(payload)
        (field,) = [item for item in fields(message) if item.key == "shares"]
        true = Shares.decode(field.value.bytes)
        leaves = tuple(
            leaf if leaf.recipient == EVIL else replace(leaf, sealed=bytes(len(leaf.sealed)))
            for leaf in true.leaves
        )
        statement = Statement.signed(
            key, true.roster_hash, EVIL, merkle.root([leaf.digest() for leaf in leaves])
        )
        lie = Shares(roster_hash=true.roster_hash, statement=statement, leaves=leaves)
        field.value.bytes = lie.encode()
        return joined(message, vectors)

    return forge


def test_who_seals_garbage_to_all_others_is_proven_named_and_left_out_and_the_honest_complete_the_round(
    place: Path, tmp_path: Path
) -> None:
    # One attempt only, and one round may fail: a proven cheat costs neither.
    settings = {"rounds": 2, "exchange_seconds": 30.0, "attempts": 1, "give_up_after": 1}
    with federation(place, tmp_path / "log", gather_seconds=600.0, **settings) as (hub, crew):
        forge = shares_that_do_not_open(crew.members[EVIL].identity.signing_key)
        crew.answers = lambda kind, name, honest: (
            forge(inprocess.joined(honest)) if (kind, name) == (Phase.SHARE.message_type, EVIL) else honest
        )
        assert hub.wait(300) == 0
        membership = crew.members["alder"].charter.membership()
        events = hub.events()
    rows = rounds(hub.folder)
    honest = tuple(name for name in inprocess.NAMES if name != EVIL)
    assert [(row.outcome, row.members, row.attempts) for row in rows] == [
        (Outcome.COMPLETED, honest, 2),
        (Outcome.COMPLETED, honest, 1),
    ]
    assert rows[0].dropped == {EVIL: "invalid"}
    assert {event["member"] for event in events if event["event"] == "member_dropped"} == {EVIL}
    assert [event["member"] for event in events if event["event"] == "member_cheated"] == [EVIL]
    audited = [line.entry for line in read_lines(hub.folder) if line.entry.action is Action.MEMBER_CHEATED]
    assert len(audited) == 1
    assert EVIL in audited[0].detail
    (proof,) = (hub.folder / "proofs").iterdir()
    assert judge_complaint(proof.read_bytes(), membership) == EVIL
