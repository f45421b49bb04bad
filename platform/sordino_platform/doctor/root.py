"""The root's folder: its secrets are private, its charter is not about to expire, and nobody used a token twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sordino_platform.doctor import checks
from sordino_platform.doctor.finding import Finding, checked, failed, ok, warning
from sordino_platform.durable import read_secret
from sordino_platform.identity import authority, invitations
from sordino_platform.identity.site import WARN_BEFORE


def is_root(folder: Path) -> bool:
    """Whether this is a root's folder."""
    return (folder / authority.AUTHORITY_PUBLIC).exists()


def root_checks(folder: Path) -> Iterator[Finding]:
    """Every check that needs no passphrase of the root key."""
    yield checked("secrets", lambda: secrets(folder))
    yield checked("charter", lambda: charter(folder))
    yield checked("tokens", lambda: tokens(folder))
    yield checked("disk", lambda: checks.disk(folder))


def secrets(folder: Path) -> str:
    """Modes and owners of the secret files. Raises ConfigurationError."""
    present = [name for name in (authority.ROOT_KEY, authority.AUTHORITY_KEY) if (folder / name).exists()]
    for name in present:
        read_secret(folder / name)
    return f"{', '.join(present)}: nobody else can read them"


def charter(folder: Path) -> Finding:
    """How long the newest epoch is still valid."""
    head, now = authority.charters_of(folder).head().charter, datetime.now(UTC)
    head.require_current(now)
    left = (head.expires_at - now).days
    said = f"epoch {head.epoch} of {head.federation} until {head.expires_at:%Y-%m-%d}, {left} days"
    if left < WARN_BEFORE.days:
        return warning("charter", said, "sordino charter new, then sordino charter sign")
    return ok("charter", said)


def tokens(folder: Path) -> Finding:
    """Enrolment tokens that somebody offered again after they were used."""
    again = invitations.reused_tokens(folder)
    if not again:
        return ok("tokens", "no enrolment token was offered twice")
    who = ", ".join(f"{name} ({count} times, last {last:%Y-%m-%d %H:%M} UTC)" for name, count, last in again)
    return failed(
        "tokens",
        f"a used enrolment token was offered again for {who}",
        "somebody holds a copy: ask whether the first enrolment was that party's own; if not, sordino identity retire",
        exit_code=3,
    )
