"""The checks of `sordino doctor` on the coordinator's machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from sordino_coordinator.control.audit import verify_audit
from sordino_coordinator.control.callers import TOKEN_FILE
from sordino_coordinator.control.live import Doing, read_coordinator_status
from sordino_coordinator.control.orders import read_orders
from sordino_coordinator.heldout import usable
from sordino_coordinator.oidc import api_tokens
from sordino_coordinator.oidc.settings import OidcSettings
from sordino_coordinator.settings import CoordinatorSettings, load_coordinator_settings
from sordino_platform.architecture import HuggingFaceConfig
from sordino_platform.doctor import checks
from sordino_platform.doctor.finding import Finding, checked, failed, ok, warning
from sordino_platform.durable import read_secret
from sordino_platform.identity import Identity
from sordino_platform.identity.renewal import RenewalBox
from sordino_platform.machine.processes import alive
from sordino_platform.plans import Plan
from sordino_platform.release import ReleaseStore
from sordino_platform.round_limits import RoundLimits
from sordino_privacy.accounting import epsilon
from sordino_privacy.errors import DataError, SordinoError, StorageError


def coordinator_checks(folder: Path, identity: Identity) -> Iterator[Finding]:
    """Everything that a coordinator needs to run rounds."""
    yield from checks.common(folder, identity, signed_moments(folder, identity))
    try:
        settings = read_orders(folder).pace.over(load_coordinator_settings(folder))
    except SordinoError as error:
        yield failed("settings", error.message, error.hint, exit_code=error.exit_code)
        return
    yield ok("settings", f"{folder / 'coordinator.toml'} is understood")
    yield checked("plan", lambda: plan(settings, identity))
    if settings.counts is not None:
        yield checked("counts", lambda: counts(settings, identity))
    yield checked("held-out code", lambda: heldout(settings, identity))
    yield checked("state", lambda: state(folder))
    yield checked("releases", lambda: releases(folder, identity))
    yield checked("audit log", lambda: audit(folder, identity))
    yield checked("renewals", lambda: renewals(folder))
    live = read_coordinator_status(folder)
    own = live is not None and live.doing is not Doing.STOPPED and alive(live.pid)
    yield checked("listen", lambda: checks.port("listen", settings.listen, own=own, setting="listen"))
    metrics = f"127.0.0.1:{settings.metrics_port}"
    yield checked(
        "metrics port", lambda: checks.port("metrics port", metrics, own=own, setting="metrics_port")
    )
    if settings.api_listen:
        yield checked("api", lambda: checks.port("api", settings.api_listen, own=own, setting="api_listen"))
    if (oidc := settings.oidc) is not None:
        yield checked("identity provider", lambda: identity_provider(oidc))
    if (folder / TOKEN_FILE).exists():
        yield checked("api token", lambda: f"{len(read_secret(folder / TOKEN_FILE))} bytes, private")


def identity_provider(settings: OidcSettings) -> str:
    """The provider answers, and has keys that could sign. Raises ProviderSilentError, ConfigurationError."""
    settings.secret()
    found = len(api_tokens(settings).provider.discovered().keys)
    return f"{settings.issuer} answers, with {found} key(s) that are accepted here"


def signed_moments(folder: Path, identity: Identity) -> list[datetime]:
    """When the newest release was made: by this machine, but perhaps before its clock was set back."""
    try:
        newest = ReleaseStore(folder / "releases", identity.charters).look()
    except SordinoError:
        return []  # the check of the releases says why
    return [] if newest is None else [newest.made_at]


def plan(settings: CoordinatorSettings, identity: Identity) -> str:
    """The plan and the server's step lie inside the charter's policies. Raises PolicyError, ConfigurationError."""
    chosen, limits = settings.plan.plan(), limits_of(identity)
    limits.require_step(chosen, settings.server_optimiser)
    reach = limits.reach(chosen, settings.server_optimiser)
    return (
        f"inside the charter's policies; a round moves the model by at most {reach / limits.norm:.1%} of its length, "
        f"and costs {costs(limits, chosen)}"
    )


def counts(settings: CoordinatorSettings, identity: Identity) -> str:
    """The plan of a count lies inside the charter's policies. Raises PolicyError, ConfigurationError."""
    assert settings.counts is not None
    charter, limits = identity.charter, limits_of(identity)
    chosen = settings.counts.plan(salt=0, fewest=charter.smallest_sum(), shares=charter.noise_shares())
    limits.require_plan(chosen)
    return f"inside the charter's policies; a count costs {costs(limits, chosen)}"


def limits_of(identity: Identity) -> RoundLimits:
    """What the charter allows. Raises ConfigurationError."""
    from sordino_platform.founding_model import founding_parameters

    return RoundLimits.of(identity.charter, founding_parameters(identity.charter.model))


def costs(limits: RoundLimits, chosen: Plan) -> str:
    """The cost of one round to a member, in both numbers if there are two."""
    together, alone = (epsilon([event], chosen.delta).value for event in limits.costs(chosen))
    said = f"epsilon {together:.2f} by itself at delta {chosen.delta:g}"
    return said if limits.shares == 1 else f"{said}, {alone:.2f} if all others collude"


def heldout(settings: CoordinatorSettings, identity: Identity) -> Finding:
    """The public code that measures each release. Raises ConfigurationError where `up` would refuse to start, DataError
    for folders without source files."""
    from sordino_coordinator.release_gate import require_measurable

    config = identity.charter.model.config()
    require_measurable(settings, config)
    if isinstance(config, HuggingFaceConfig) and not settings.heldout:
        return ok("held-out code", "none: adapters on a base are not measured here, as the settings say")
    if not settings.heldout:
        return warning(
            "held-out code",
            "none: nothing notices a release that got worse",
            "set `heldout` in coordinator.toml to folders of public code",
        )
    count = sum(usable(path) for folder in settings.heldout for path in folder.rglob("*"))
    if not count:
        raise DataError(
            "no source files in the folders of `heldout`", hint="correct `heldout` in coordinator.toml"
        )
    return ok("held-out code", f"{count} files")


def renewals(folder: Path) -> Finding:
    """The parties that wait for a new certificate. Raises ConfigurationError."""
    waiting = RenewalBox(folder).waiting()
    if not waiting:
        return ok("renewals", "nobody waits for a certificate")
    names, oldest = ", ".join(one.name for one in waiting), min(one.made_at for one in waiting)
    return warning(
        "renewals",
        f"{len(waiting)} wait since {oldest:%Y-%m-%d} for a certificate: {names}",
        "approve them in one go: sordino identity pending, approve, deliver",
    )


def state(folder: Path) -> str:
    """The database of rounds, read only. Raises StorageError."""
    path = folder / "state.sqlite"
    if not path.exists():
        return "no round has run yet"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            (verdict,) = database.execute("PRAGMA quick_check").fetchone()
            (count,) = database.execute("SELECT count(*) FROM rounds").fetchone()
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}", hint="restore it from a backup") from error
    if verdict != "ok":
        raise StorageError(f"{path} is damaged: {verdict}", hint="restore it from a backup")
    return f"{count} rounds, intact"


def releases(folder: Path, identity: Identity) -> str:
    """Every release and every vector that is kept, verified. Raises StorageError, ConfigurationError."""
    chain = ReleaseStore(folder / "releases", identity.charters).verify(weights=True)
    return f"{len(chain)}, and every one follows from the one before"


def audit(folder: Path, identity: Identity) -> str:
    """The audit log, verified. Raises StorageError."""
    keys = frozenset(signed.charter.coordinator.identity_key for signed in identity.charters.chain())
    count, head = verify_audit(folder, keys=keys)
    return f"{count} entries, chained and signed; head {head.hex()[:16]}"
