"""Notes what members said or did, for the operator and for later rounds. Nothing here decides anything about a round's
security.

One exception: a member that was proven to cheat is left out of every attempt until this process is started anew.
"""

from __future__ import annotations

from collections import Counter

from sordino_coordinator.control.audit import Action
from sordino_coordinator.federation import Federation
from sordino_platform.durable import make_folder, write_file
from sordino_platform.ledger_head import SignedLedgerHead
from sordino_platform.offer import Unready
from sordino_privacy.errors import ConfigurationError


def note_tenure(federation: Federation, member: str, data: bytes) -> None:
    """Takes note of a tenure that a member holds. A later one ends this process's rounds: see `require_current`."""
    if data and federation.tenancy.note(data):
        federation.log.error("superseded", member=member)


def keep_ledger_head(federation: Federation, member: str, data: bytes) -> None:
    """Keeps the head of a member's ledger, to hand it back later. A head that the member did not sign is not kept."""
    if not data:
        return
    try:
        head = SignedLedgerHead.parse(
            data,
            federation=federation.membership.federation,
            member=member,
            public_key=federation.membership.member(member).public_key,
        ).head
    except ConfigurationError as error:
        federation.log.warning("ledger_head_refused", member=member, error=error.message)
        return
    age = {"generation": head.generation, "sequence": head.sequence}
    federation.note(lambda: federation.rounds.keep_head(member, **age, head=data))


def note_unready(federation: Federation, member: str, reason: Unready | None) -> None:
    """Shows why a member takes no part, None if it does. A change is logged."""
    if federation.unready.get(member) is reason and member in federation.unready:
        return
    federation.unready[member] = reason
    for label in Unready:
        federation.metrics.unready.labels(label.value).set(Counter(federation.unready.values())[label])
    federation.note(lambda: federation.rounds.note_unready(member, reason or ""))
    if reason is not None:
        federation.log.warning("member_not_ready", member=member, reason=reason.value)


def note_epsilon(federation: Federation, member: str, epsilon: float, alone: float | None = None) -> None:
    """Shows the epsilon that a member reported, and the one `alone` if all others collude, where that is another.
    Raises nothing: it is for the operator's eyes only."""
    if 0 <= epsilon < 1e6 and (alone is None or 0 <= alone < 1e6):
        federation.metrics.report_epsilon(member, epsilon)
        federation.note(lambda: federation.rounds.note_epsilon(member, epsilon, alone))
        federation.log.info(
            "epsilon", member=member, epsilon=epsilon, budget=federation.charter.privacy.largest_epsilon
        )


def exclude_cheater(federation: Federation, member: str, why: str, *, round: int, proof: bytes = b"") -> None:
    """Records a member that was proven to cheat: it is left out of every attempt until this process is started again.

    `proof` is kept beside the transcript, so that a third party can judge it (sordino_privacy.secagg.judge_complaint).
    """
    if member in federation.cheaters:
        return
    federation.cheaters.add(member)
    federation.metrics.cheaters.set(len(federation.cheaters))
    if proof:
        make_folder(federation.folder / "proofs")
        write_file(federation.folder / "proofs" / f"{round:06d}-{member}.bin", proof)
    federation.audit.append(Action.MEMBER_CHEATED, f"round {round}, {member}: {why}")
    federation.log.error("member_cheated", round=round, member=member, error=why)
