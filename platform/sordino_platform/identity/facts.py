"""What `sordino identity show` says about a folder: its party, its root and epoch, and what needs to be done."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sordino_platform.identity import site
from sordino_platform.identity.renewal import ending
from sordino_platform.keys import fingerprint
from sordino_privacy.errors import ConfigurationError, SordinoError


def identity_facts(folder: Path, *, now: datetime) -> dict[str, object]:
    """The facts by their names in --json. None for facts that a party does not have before it joins.

    Raises ConfigurationError for a folder without an identity, and for one that has joined but cannot be loaded.
    """
    card = site.read_card(folder)
    facts: dict[str, object] = {
        "federation": card.federation,
        "role": card.role,
        "name": card.name,
        "organisation": card.organisation,
        "fingerprint": fingerprint(card.identity_key),
        "root": None,
        "epoch": None,
        "charter_expires_at": None,
        "certificate_expires_at": None,
        "certificate_days_left": None,
        "problem": None,
    }
    try:
        identity = site.Identity.load(folder)
        charter, tls = identity.charter, identity.tls()
    except ConfigurationError as error:
        if (folder / site.PIN).exists():
            raise
        return facts | {"problem": error.message}
    return facts | {
        "root": identity.charters.root,
        "epoch": charter.epoch,
        "charter_expires_at": f"{charter.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "certificate_expires_at": f"{tls.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "certificate_days_left": tls.days_left(now),
        "problem": _problem(identity, tls, now),
    }


def _problem(identity: site.Identity, tls: site.TlsCredentials, now: datetime) -> str | None:
    """What an operator should do, or None."""
    try:
        identity.charter.require_current(now)
    except SordinoError as error:
        return error.message
    if identity.charter.identity_key(identity.card.role, identity.card.name) != identity.card.identity_key:
        return f"this identity is not part of epoch {identity.charter.epoch}: it was retired"
    said = ending(tls, now)
    return f"{said}: `sordino identity renew`" if said else None
