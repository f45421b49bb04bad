"""The limits that a charge must fit into: the total, the owner's agreement, and the last 24 hours.

Nothing here charges. All epsilons hold at the budget's delta. `besides` are rounds that do not count, because their
charges are given back first.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from sordino_client.ledger.account import Account
from sordino_client.ledger.budget import Budget, Cost, DayCapError
from sordino_client.ledger.cost import RoundCost, events, events_alone
from sordino_privacy.accounting import SampledGaussian, epsilon, runs_left
from sordino_privacy.errors import BudgetError

DAY = 24 * 3600 * 10**9
"""In nanoseconds."""


def foreseen_cost(account: Account, budget: Budget, cost: RoundCost, rounds: int = 1) -> Cost:
    """The cost of a run of `rounds` rounds, and how many such runs are left."""
    costs, delta = account.costs(), budget.delta
    spent, run = events(costs), [cost.event] * rounds
    after = epsilon([*spent, *run], delta).value
    alone = events_alone([*costs, *[cost] * rounds])
    return Cost(
        spent=epsilon(spent, delta).value,
        after=after,
        budget=budget.epsilon,
        runs_left=runs_left(spent, run, budget.epsilon, delta),
        alone=epsilon(alone, delta).value,
    )


def require_affordable(
    account: Account,
    budget: Budget,
    cost: RoundCost,
    *,
    now: int,
    besides: Collection[tuple[str, int]] = (),
) -> None:
    """Returns if one more round of this cost may be charged `now`, in nanoseconds since 1970.

    Raises BudgetError for the total and for a cost that the owner has not agreed to, DayCapError for the last 24 hours.
    """
    costs, delta = [*account.costs(besides=besides), cost], budget.delta
    after = epsilon(events(costs), delta).value
    if after > budget.epsilon:
        raise BudgetError(
            f"privacy budget: {foreseen_cost(account, budget, cost)}",
            hint="wait for a cheaper plan, or raise the budget in this member's own policy",
        )
    if any(one.shared for one in costs):
        require_agreed(budget, after=after, alone=epsilon(events_alone(costs), delta).value)
    require_today(account, budget, cost.event, now=now, besides=besides)


def require_agreed(budget: Budget, *, after: float, alone: float) -> None:
    """Checks a round with noise in shares against the owner's limit on the epsilon if all others collude with the
    coordinator. Raises BudgetError, which says what to type."""
    cap = budget.epsilon_if_others_collude
    if alone <= cap:
        return
    said = (
        f"noise comes in shares here: after this round this member's epsilon is {after:.2f} as long as the "
        f"federation holds, and {alone:.2f} if all others collude with the coordinator; "
    )
    if cap == 0:
        said += "its owner has not agreed to the second"
    else:
        said += f"its owner agreed to {cap:g} at most for the second"
    raise BudgetError(
        said,
        hint=f"to agree, write epsilon_if_others_collude = {math.ceil(alone)} into member.toml, or more for more such "
        "rounds, and start the agent again; to refuse, leave it",
    )


def require_today(
    account: Account,
    budget: Budget,
    event: SampledGaussian,
    *,
    now: int,
    besides: Collection[tuple[str, int]] = (),
) -> None:
    """Checks that one more round fits into the caps on 24 hours. `now` in nanoseconds since 1970; charges of the rounds
    `besides` are given back before it. Raises DayCapError."""
    if budget.epsilon_per_day is not None:
        today = epsilon([*events(account.costs(since=now - DAY, besides=besides)), event], budget.delta).value
        if today > budget.epsilon_per_day:
            raise DayCapError(
                f"privacy budget: this run would bring the last 24 hours to epsilon {today:.2f}; "
                f"the cap is {budget.epsilon_per_day:.2f}",
                hint="training goes on when older rounds leave the 24 hours; epsilon_per_day in member.toml is "
                "the cap",
            )
    begun = sum(time >= now - DAY for time in account.reserved_at)
    if budget.rounds_per_day is not None and begun >= budget.rounds_per_day:
        raise DayCapError(
            f"{begun} rounds began here in the last 24 hours; the cap is {budget.rounds_per_day}",
            hint="training goes on when older rounds leave the 24 hours; rounds_per_day in member.toml is the cap",
        )
