"""The checks of `sordino doctor` on a member's machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from sordino_client.completion import unread
from sordino_client.corpus import ExclusionReason
from sordino_client.foreseen import foreseen
from sordino_client.ledger import read_account
from sordino_client.ledger.witness import RECOVER, kept
from sordino_client.round.heads import uncharged
from sordino_client.settings import MemberSettings, load_member_settings
from sordino_client.status import read_agent_status, read_ledger
from sordino_platform.doctor import checks
from sordino_platform.doctor.finding import Finding, checked, failed, ok, warning
from sordino_platform.identity import Identity
from sordino_platform.link import Cause, ClientTls, diagnose
from sordino_platform.machine.processes import alive
from sordino_platform.release import ReleaseStore
from sordino_privacy.errors import SordinoError, StorageError

NEARLY_SPENT = 0.9
SHOWS = "`sordino client corpus --repo DIR` reads a repository anew and counts what it cannot read"


def member_checks(folder: Path, identity: Identity) -> Iterator[Finding]:
    """Everything that a member needs to take part in a round."""
    yield from checks.common(folder, identity, [])
    try:
        settings = load_member_settings(folder)
    except SordinoError as error:
        yield failed("settings", error.message, error.hint, exit_code=error.exit_code)
        return
    yield ok("settings", f"{folder / 'member.toml'} is understood")
    yield checked("repositories", lambda: repositories(settings))
    yield checked("units", lambda: units(folder, identity, settings))
    yield prepared(folder)
    yield remembered(folder)
    yield checked("budget", lambda: budget(folder))
    yield checked("ledger", lambda: ledger(folder, identity))
    yield checked("releases", lambda: releases(folder, identity))
    yield from foreseen(folder, identity, settings)
    own = running(folder)
    for name in ("completion_port", "metrics_port"):
        address = f"127.0.0.1:{getattr(settings, name)}"
        yield checks.port(name.replace("_", " "), address, own=own, setting=name)
    yield checked("name resolution", lambda: checks.name_resolution(settings.coordinator))
    yield checked("coordinator", lambda: link(settings.coordinator, identity))


def running(folder: Path) -> bool:
    """Whether an agent runs in this folder."""
    return (folder / "status.json").exists() and alive(int(read_agent_status(folder)["pid"]))


def repositories(settings: MemberSettings) -> str:
    """Every repository can be looked into. Raises DataError, as a round would."""
    from sordino_client.round.readiness import require_data

    require_data(settings)
    return f"{len(settings.repositories)} folder(s), all readable"


def units(folder: Path, identity: Identity, settings: MemberSettings) -> str:
    """Checks that there are enough units to hide one among them. If an agent has prepared units, its counts tell; else
    the repositories are read as the agent would read them, and nothing is kept. Raises DataError, ConfigurationError,
    StorageError."""
    from sordino_client.training.base_here import tokenizer_of
    from sordino_client.training.preparation import last_prepared, prepare

    model = identity.charter.model
    config, tokenizer = model.config(), tokenizer_of(settings, model)
    found = last_prepared(folder / "corpus", settings, tokenizer, window=settings.window)
    if found is None:
        with TemporaryDirectory() as place:
            register = folder / "corpus" / "units.sqlite"
            if (
                register.exists()
            ):  # which files are one unit is remembered there; an agent may be writing to it
                with (
                    closing(sqlite3.connect(f"file:{register}?mode=ro", uri=True)) as known,
                    closing(sqlite3.connect(Path(place) / register.name)) as copy,
                ):
                    known.backup(copy)
            found = prepare(Path(place), settings, tokenizer, window=settings.window, end=config.end)
    return f"{found.units} of at least {settings.minimum_units}, from {found.files} files"


def prepared(folder: Path) -> Finding:
    """Checks that the last preparation could read everything."""
    from sordino_client.training.preparation import not_read

    if counts := not_read(folder / "corpus"):
        said = ", ".join(
            f"{count:,} entries {unread.PARTS[ExclusionReason(reason)]}" for reason, count in counts.items()
        )
        return warning("training data", said, SHOWS)
    return ok("training data", "nothing is known to be missing from it")


def remembered(folder: Path) -> Finding:
    """Checks that the local memory holds every repository."""
    gaps = unread.read(folder / "completion" / "memory")
    if gaps:
        return warning("local memory", "; ".join(map(str, gaps)), SHOWS)
    return ok("local memory", "no repository is missing from it")


def budget(folder: Path) -> Finding:
    """Says what is left of the privacy budget. Verifies the ledger's chain."""
    if not (folder / "ledger").exists():
        return ok("budget", "nothing was spent yet")
    facts = read_ledger(folder)
    spent, whole = facts["epsilon_spent"], facts["epsilon_budget"]
    said = f"epsilon {spent:.2f} of {whole:.2f} is spent in {len(facts['rounds'])} rounds, delta {facts['delta']:g}"
    if spent >= whole:
        return failed(
            "budget",
            said,
            "this member takes no part any more; completions go on. See the member's guide",
            exit_code=5,
        )
    if facts["planned"] is not None and facts["planned"]["rounds_left"] == 0:
        hint = "a round with more noise or fewer steps may fit; completions go on. See the member's guide"
        return failed("budget", f"{said}: one more round like the last does not fit", hint, exit_code=5)
    if spent > NEARLY_SPENT * whole:
        return warning("budget", said, "few rounds are left: see docs/runbooks/PrivacyBudgetNearlySpent.md")
    return ok("budget", said)


def ledger(folder: Path, identity: Identity) -> str:
    """Checks that no witness remembers more of the ledger than it holds. Raises StorageError, as the agent would."""
    if not (folder / "ledger").exists():
        return "none yet"
    if running(folder) and (why := read_agent_status(folder).get("ledger")):
        raise StorageError(
            str(why), hint="the agent goes on by itself once the ledger opens; completions go on"
        )
    if kept(folder / "ledger") is not None:
        raise StorageError(
            "the privacy ledger is not whole: the coordinator keeps a newer head of it", hint=RECOVER
        )
    charged = read_account(folder / "ledger").reservations
    missing = uncharged(ReleaseStore(folder / "releases", identity.charters), identity.card.name, charged)
    if missing:
        raise StorageError(f"{len(missing)} releases that name this member are not charged", hint=RECOVER)
    return f"whole: {len(charged)} rounds are charged, and every release that names this member is among them"


def releases(folder: Path, identity: Identity) -> str:
    """The chain of releases that this member holds, verified."""
    chain = ReleaseStore(folder / "releases", identity.charters).verify()
    return f"newest is {len(chain) - 1}, and every one follows from the one before" if chain else "none yet"


def link(address: str, identity: Identity) -> Finding:
    """One connection, as the agent would make it: TCP, TLS both ways, names, authorities."""
    own = identity.tls()
    tls = ClientTls(key=own.private_key, certificate=own.certificate, ca=own.authority, issuers=own.issuers)
    found = diagnose(address, tls=tls)
    if found.cause is Cause.REACHABLE:
        return ok("coordinator", found.message)
    return failed("coordinator", found.message, found.hint, exit_code=6)
