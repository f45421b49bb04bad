"""The member's privacy ledger: what was spent on which round, before it was spent. It outlives jobs and crashes.

budget   the member's own caps, and what a run costs in words
chain    durable hash-chained rows (SQLite): rollback and deletion are noticed, two processes are refused
account  the rows folded into what they mean: reservations, secure-aggregation steps
witness  what others remember of the ledger, and whether that contradicts it
cost     one round in its two numbers: as the federation holds, and if all others collude
limits   what a charge must fit into: the total, what the owner agreed to, the last 24 hours
store    `Ledger`: reserve, train, commit; also the `Journal` that secure aggregation requires
"""

from sordino_client.ledger.account import Account, Reservation
from sordino_client.ledger.budget import Budget, Cost, DayCapError
from sordino_client.ledger.chain import ChainHead, LedgerHeldError, LedgerRefusesError
from sordino_client.ledger.cost import RoundCost, events, events_alone
from sordino_client.ledger.limits import require_today
from sordino_client.ledger.store import Ledger, read_account, repository_identity
from sordino_client.ledger.witness import Witness

__all__ = [
    "Account",
    "Budget",
    "ChainHead",
    "Cost",
    "DayCapError",
    "Ledger",
    "LedgerHeldError",
    "LedgerRefusesError",
    "Reservation",
    "RoundCost",
    "Witness",
    "events",
    "events_alone",
    "read_account",
    "repository_identity",
    "require_today",
]
