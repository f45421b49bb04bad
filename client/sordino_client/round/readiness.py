"""Whether this member would take part in a round like the one that is offered, or why not. Decides; changes nothing.

Everything that can be known before a round is checked here, so that a round that cannot succeed never begins: no member
trains for it and none is charged. The same checks are made again before the training (contribution.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from sordino_client.ledger import DayCapError
from sordino_client.round.base_seen import require_same_base
from sordino_client.round.contribution import require_space
from sordino_client.round.epochs import require_no_epoch_waits
from sordino_client.round.heads import require_charged
from sordino_client.round.member import Member
from sordino_client.settings import MemberSettings
from sordino_platform.charter import HuggingFaceTerms
from sordino_platform.identity import require_signs
from sordino_platform.offer import Offer, Unready
from sordino_platform.round_limits import RoundLimits
from sordino_platform.telemetry import log
from sordino_privacy.errors import DataError, SordinoError
from sordino_privacy.secagg import PolicyError


def unready(member: Member, offer: Offer) -> Unready | None:
    """The first reason against a round like this, or None. What is wrong is logged when it changes; only the label
    leaves."""
    found, error = first_reason(member, offer)
    if member.participation.note_unready(found) and error is not None:
        log().warning("not_ready", member=member.name, reason=found, error=error.message, hint=error.hint)
    return found


def first_reason(member: Member, offer: Offer) -> tuple[Unready | None, SordinoError | None]:
    """The reason, and the error behind it where there is one."""
    if member.participation.paused:
        return Unready.PAUSED, None
    if not member.participation.ready:
        return Unready.NOT_ASKED, None
    checks: tuple[tuple[Unready, Callable[[], object]], ...] = (
        (Unready.LOCAL, lambda: require_signs(member.identity.signing_key)),
        (Unready.CHARTER, member.charter.require_current),
        (Unready.EPOCH, lambda: require_no_epoch_waits(member.folder, member.identity.charters)),
        (Unready.LEDGER, member.ledger.require_whole),
        (Unready.LEDGER, lambda: require_charged(member)),
        (Unready.PLAN, lambda: require_plan(member, offer)),
        (Unready.BASE, lambda: require_base(member)),
        (Unready.DISK, lambda: require_space(member.folder, member.config, offer.plan)),
        (
            Unready.BUDGET,
            lambda: member.ledger.require(
                offer.plan, run=offer.run, round=offer.round, noise=member.noise(offer.plan)
            ),
        ),
        (Unready.LOCAL, lambda: require_data(member.settings)),
    )
    for reason, check in checks:
        try:
            check()
        except SordinoError as error:
            return (Unready.DAY_CAP if isinstance(error, DayCapError) else reason), error
    return None, None


def require_base(member: Member) -> None:
    """Checks that the base is here, and still the one that the charter names. Raises ConfigurationError,
    StorageError."""
    place, model = member.base(), member.charter.model
    if place is not None and isinstance(model, HuggingFaceTerms):
        require_same_base(member.folder, place, model.base_sha256.hex())


def require_plan(member: Member, offer: Offer) -> None:
    """Checks that charter and settings allow the plan. Raises PolicyError."""
    plan = offer.plan
    RoundLimits.of(member.charter, member.parameters).require_plan(plan)
    if plan.windows_per_unit > member.settings.windows_per_unit:
        raise PolicyError("the plan's windows per unit exceed this member's own settings")


def require_data(settings: MemberSettings) -> None:
    """Checks that every repository can be opened. Raises DataError."""
    for path in settings.repositories:
        if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            raise DataError(
                f"{path} cannot be read", hint="correct `repositories` in member.toml, or its permissions"
            )
