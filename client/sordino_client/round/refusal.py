"""The one word by which a member refuses.

It is from a closed set and says nothing about the data. An exception's text may tell something about the data, and so
may its class: that a repository has too few units, or that an update was not finite, must stay here. A refusal by a
rule of the protocol, the charter or the owner has its own word; everything else that goes wrong here has one word in
common.
"""

from __future__ import annotations

from sordino_client.round.epochs import EpochWaitsError
from sordino_client.round.participation import UnwillingError
from sordino_client.round.tenures import SupersededError
from sordino_privacy.errors import BudgetError, LinkError
from sordino_privacy.secagg import REFUSALS, MalformedError, OrderError, SecaggError

UNWILLING, EPOCH, SUPERSEDED, BUDGET, LOCAL = "unwilling", "epoch", "superseded", "budget", "local"
KINDS: tuple[type[SecaggError], ...] = (*REFUSALS, OrderError, MalformedError)
RULES = frozenset(kind.label for kind in KINDS)
WORDS = frozenset({UNWILLING, EPOCH, SUPERSEDED, BUDGET, LOCAL}) | RULES
"""Every word there is."""


def word_of(error: Exception) -> str:
    """The word for `error`."""
    match error:
        case UnwillingError():
            return UNWILLING
        case EpochWaitsError():
            return EPOCH
        case SupersededError():
            return SUPERSEDED
        case BudgetError():
            return BUDGET
        case LinkError():
            return MalformedError.label
        case SecaggError() if error.label in RULES:
            return error.label
        case _:
            return LOCAL
