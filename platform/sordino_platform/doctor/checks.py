"""Checks for every party. Each only reads and connects. The only change is a probe file, which is removed again."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement

from sordino_platform.doctor.finding import CheckState, Finding, checked, failed, ok, warning
from sordino_platform.durable import write_file
from sordino_platform.identity import Identity, admit, require_signs
from sordino_platform.identity.renewal import warned_days
from sordino_platform.identity.site import KEY_URI, WARN_BEFORE
from sordino_platform.link.address import parse_address
from sordino_platform.machine.sockets import claim
from sordino_privacy.errors import ConfigurationError, LinkError

SMALLEST_FREE_BYTES = 1 << 30
NEEDED_FREE_BYTES = 64 << 20
CLOCK_TOLERANCE = timedelta(minutes=10)
RENEW = (
    "approve what waits: sordino identity pending, approve, deliver; a party that is not connected renews by hand: "
    "sordino identity renew, approve, install. Nothing has to be restarted"
)


def versions() -> Finding:
    """Python and every declared dependency, against the versions that this release requires."""
    wrong = []
    for line in requires("sordino") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = version(requirement.name)
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} (needs {requirement.specifier})")
    python = ".".join(map(str, sys.version_info[:3]))
    said = f"sordino {version('sordino')}, Python {python}, flwr {version('flwr')}"
    if not wrong:
        return ok("versions", said)
    said = f"{said}; other versions than asked for: {', '.join(wrong)}"
    return failed("versions", said, "install sordino again into an environment of its own", exit_code=3)


def clock(identity: Identity, seen: Sequence[datetime], *, now: datetime) -> Finding:
    """The clock against dates that others signed: it must not be earlier than the newest of them.

    `seen` are dates in signed documents held here, besides the charter's.
    """
    newest = max([identity.charter.issued_at, *seen])
    said = f"this machine's clock says {now:%Y-%m-%d %H:%M:%S} UTC"
    if now < newest - CLOCK_TOLERANCE:
        return failed(
            "clock",
            f"{said}, and a document here was signed at {newest:%Y-%m-%d %H:%M} UTC",
            "set the clock (timedatectl set-ntp true); certificates and the daily budget depend on it",
            exit_code=3,
        )
    return ok("clock", f"{said}, later than all that was signed here")


def charter(identity: Identity, *, now: datetime) -> Finding:
    """The newest epoch: not expired, and this identity is in it."""
    held, card = identity.charter, identity.card
    held.require_current(now)
    if held.identity_key(card.role, card.name) != card.identity_key:
        raise ConfigurationError(
            f"{card.name!r} is not part of epoch {held.epoch} of {held.federation}",
            hint="it was retired, or its key was replaced: ask the root's holder",
        )
    left = held.expires_at - now
    said = f"epoch {held.epoch} of {held.federation}, {len(held.members)} members, until {held.expires_at:%Y-%m-%d}"
    if left < WARN_BEFORE:
        return warning("charter", f"{said}: {left.days} days left", "the root's holder signs the next epoch")
    return ok("charter", said)


def certificate(identity: Identity, *, now: datetime) -> Finding:
    """The TLS certificate: valid, for this party, under the charter's key; warns 30, 7 and 1 days before its end."""
    tls = identity.tls()
    days = warned_days(tls, now)
    if days == 0:
        return failed("certificate", f"expired on {tls.expires_at:%Y-%m-%d %H:%M} UTC", RENEW, exit_code=6)
    admit(tls.certificate, identity.charter, now=now)
    said = f"valid until {tls.expires_at:%Y-%m-%d %H:%M} UTC, {tls.remaining(now).days} days"
    if days is None:
        return ok("certificate", said)
    return warning("certificate", f"{said}: it ends within {days}", RENEW)


def signing_key(identity: Identity) -> str:
    """The identity's key can be used, also when a token holds it. Raises SignerError."""
    require_signs(identity.signing_key)
    place = identity.folder / KEY_URI
    return f"signs, {f'in the token that {place} names' if place.exists() else 'from its file'}"


def disk(folder: Path) -> Finding:
    """Free space on the folder's disk, and a durable write that succeeds."""
    probe = folder / f".doctor-{secrets.token_hex(6)}"
    try:
        write_file(probe, b"probe\n", secret=True)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free
    said = f"{free / (1 << 20):,.0f} MiB free at {folder}, and a durable write succeeded"
    if free < NEEDED_FREE_BYTES:
        hint = f"free some space: at least {NEEDED_FREE_BYTES >> 20} MiB are needed"
        return failed("disk", said, hint, exit_code=8)
    if free < SMALLEST_FREE_BYTES:
        return warning("disk", said, "free some space: nothing is released that could not be recorded")
    return ok("disk", said)


def name_resolution(address: str) -> Finding:
    """The host of `address`, resolved. Raises LinkError."""
    host, _ = parse_address(address)
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None)})
    except OSError as error:
        raise LinkError(
            f"the name {host} cannot be resolved ({error.strerror})",
            hint="check the coordinator's address in the settings, and this machine's DNS",
        ) from None
    return ok("name resolution", f"{host} is {', '.join(found[:4])}")


def port(check: str, address: str, *, own: bool, setting: str) -> Finding:
    """Whether a process of ours can listen on `address`; `own` says that one already does."""
    host, number = parse_address(address)
    if number == 0:
        return ok(check, "any free port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        claim(probe)
        try:
            probe.bind((host, number))
        except OSError as error:
            if own:
                return ok(check, f"{address}: in use, by the process that runs here")
            said = f"{address} cannot be listened on: {(error.strerror or 'in use').lower()}"
            hint = f"end the other process (ss -ltnp shows it), or change {setting}"
            return failed(check, said, hint, exit_code=7)
    return ok(check, f"{address} is free")


def common(folder: Path, identity: Identity, seen: Sequence[datetime]) -> Iterator[Finding]:
    """Every check of this module that needs no settings."""
    now = datetime.now(UTC)
    yield checked("clock", lambda: clock(identity, seen, now=now))
    yield checked("charter", lambda: charter(identity, now=now))
    yield checked("certificate", lambda: certificate(identity, now=now))
    yield checked("signing key", lambda: signing_key(identity))
    yield checked("disk", lambda: disk(folder))


def worst(findings: Sequence[Finding]) -> CheckState:
    """The worst of the states."""
    found = {finding.state for finding in findings}
    return next((state for state in (CheckState.FAILED, CheckState.WARNING) if state in found), CheckState.OK)
