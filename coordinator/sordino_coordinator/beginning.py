"""Before each round: follows the operator's orders, takes over a new epoch of the charter, and decides what the round
does."""

from __future__ import annotations

import secrets

from sordino_coordinator.control.audit import Action
from sordino_coordinator.control.orders import read_orders
from sordino_coordinator.federation import Federation
from sordino_platform.identity import require_signs
from sordino_platform.plans import Plan
from sordino_platform.round_limits import RoundLimits
from sordino_privacy.counts import CountPlan
from sordino_privacy.errors import ConfigurationError, SordinoError


def begin_round(federation: Federation) -> None:
    """Returns when a round may begin, or when the process is to stop. Raises ConfigurationError, StorageError,
    PolicyError (the plan or the server's step is beyond the charter).
    """
    federation.desk.wait(federation.stopping)
    federation.settings = federation.desk.settings()
    adopt_epoch(federation)
    federation.charter.require_current()
    require_signs(federation.identity.signing_key)  # before members pay for what nobody could sign
    limits = RoundLimits.of(federation.charter, federation.parameters)
    limits.require_step(federation.training, federation.settings.server_optimiser)
    federation.plan = _next_plan(federation, limits)
    federation.show()


def must_yield(federation: Federation) -> bool:
    """Whether an order, a new epoch or a rollback must be followed before a round may begin."""
    ordered = read_orders(federation.folder).restore is not None
    ordered = ordered or count_due(federation) != isinstance(federation.plan, CountPlan)
    return federation.superseded() or ordered or federation.desk.must_wait()


def adopt_epoch(federation: Federation) -> None:
    """Takes over the members, keys and floors of a new epoch.

    Raises ConfigurationError for an epoch with another model: its releases could not follow the present ones.
    """
    charter = federation.identity.charter
    if charter.hash() == federation.charter.hash():
        return
    try:
        if charter.model != federation.charter.model:
            raise ConfigurationError(
                f"epoch {charter.epoch} is for another model", hint="a new model is a new federation"
            )
        RoundLimits.of(charter, federation.parameters).require_step(
            federation.training, federation.settings.server_optimiser
        )
    except SordinoError as error:
        federation.audit.append(Action.EPOCH_REFUSED, f"epoch {charter.epoch}: {error.message}")
        raise
    federation.charter, federation.membership = charter, charter.membership()
    federation.audit.append(
        Action.EPOCH_ADOPTED, f"epoch {charter.epoch} with {len(charter.members)} members"
    )
    federation.log.info("epoch_adopted", count=len(charter.members))


def _next_plan(federation: Federation, limits: RoundLimits) -> Plan:
    """What the next round does. It counts phrases if a count was ordered and no release has made one since; else it
    trains. An order that the charter or the settings do not allow is noted, and not tried again."""
    after = read_orders(federation.folder).count_after
    if count_due(federation):
        try:
            return _count_plan(federation, limits)
        except SordinoError as error:
            federation.audit.append(Action.COUNT_FAILED, error.message[:1000])
            federation.log.error("count_refused", error=error.message, hint=error.hint)
    if after is not None:
        federation.desk.counted(after)
    return federation.training


def count_due(federation: Federation) -> bool:
    """Whether a count was ordered that no release has made yet. The releases decide that, not a flag: so a crash after
    the release cannot make members pay for the count twice."""
    after = read_orders(federation.folder).count_after
    return after is not None and not any(
        signed.manifest.counted for signed in federation.releases.chain()[after + 1 :]
    )


def _count_plan(federation: Federation, limits: RoundLimits) -> CountPlan:
    """The plan of the ordered count, the same one until it is done. Raises ConfigurationError, PolicyError."""
    if federation.settings.counts is None:
        raise ConfigurationError(
            "coordinator.toml has no [counts]", hint="`sordino coordinator count --help` shows one"
        )
    kept = federation.plan.salt if isinstance(federation.plan, CountPlan) else secrets.randbits(62)
    charter = federation.charter
    plan = federation.settings.counts.plan(
        salt=kept, fewest=charter.smallest_sum(), shares=charter.noise_shares()
    )
    limits.require_plan(plan)
    return plan
