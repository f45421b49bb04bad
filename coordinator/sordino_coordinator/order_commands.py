"""`sordino coordinator pause|resume|pace|rollback|token` and `audit`: orders to a coordinator, running or not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sordino_platform.as_json import AsJson
from sordino_privacy.errors import ConfigurationError, StorageError, UsageError

Folder = Annotated[Path, typer.Option("--folder", "-f", help="The coordinator's folder.")]
WAIT_SECONDS = 30.0

audit_app = typer.Typer(help="The audit log: what was done, and by whom.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands to `sordino coordinator`."""
    for command in (pause, resume, pace, rollback, count, token):
        app.command()(command)
    app.add_typer(audit_app, name="audit")


def pause(folder: Folder, as_json: AsJson = False) -> None:
    """Lets no new round begin, also after a restart; the one that runs ends as it would. Completions go on.

    Example: sordino coordinator pause --folder /var/lib/sordino/coordinator
    """
    from sordino_coordinator.control import desk
    from sordino_coordinator.control.audit import Action

    orders = desk.pause(folder)
    _note(folder, Action.PAUSED)
    _show(orders, "paused; `sordino coordinator resume` lets rounds begin again", as_json=as_json)


def resume(folder: Folder, as_json: AsJson = False) -> None:
    """Lets rounds begin again.

    Example: sordino coordinator resume --folder /var/lib/sordino/coordinator
    """
    from sordino_coordinator.control import desk
    from sordino_coordinator.control.audit import Action

    orders = desk.resume(folder)
    _note(folder, Action.RESUMED)
    _show(orders, "rounds go on", as_json=as_json)


def pace(
    folder: Folder,
    rounds: Annotated[int | None, typer.Option(help="Stop after this many completed rounds.")] = None,
    pause_seconds: Annotated[float | None, typer.Option(help="Seconds between two rounds.")] = None,
    gather_seconds: Annotated[
        float | None, typer.Option(help="Seconds to wait for members beyond the quorum.")
    ] = None,
    cohort: Annotated[int | None, typer.Option(help="Begin at once with this many; 0: all members.")] = None,
    quorum: Annotated[
        int | None, typer.Option(help="Never begin with fewer; the charter's floor holds too.")
    ] = None,
    train_seconds: Annotated[float | None, typer.Option(help="Deadline of training, in seconds.")] = None,
    exchange_seconds: Annotated[float | None, typer.Option(help="Deadline of each other phase.")] = None,
    attempts: Annotated[int | None, typer.Option(help="How often a round's exchange is tried.")] = None,
    schedule: Annotated[
        list[str] | None,
        typer.Option(
            help="Hours for rounds in UTC, as 'mon-fri 20:00-06:00'; repeat; 'always' for no limit."
        ),
    ] = None,
    optimiser: Annotated[
        str | None,
        typer.Option(help="The server optimiser: fedavg, fedavgm or fedadam. Its state begins anew."),
    ] = None,
    server_learning_rate: Annotated[
        float | None, typer.Option(help="The server optimiser's step size.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Everything else as coordinator.toml says.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shows or changes how rounds follow each other. A change holds from the next round on, and after a restart.

    Example: sordino coordinator pace --folder /var/lib/sordino/coordinator --pause-seconds 3600 --quorum 8
    """
    from sordino_coordinator.control import desk
    from sordino_coordinator.control.audit import Action
    from sordino_coordinator.control.orders import read_orders
    from sordino_coordinator.settings import load_coordinator_settings

    given = {
        "rounds": rounds,
        "pause_seconds": pause_seconds,
        "gather_seconds": gather_seconds,
        "cohort": cohort,
        "quorum": quorum,
        "train_seconds": train_seconds,
        "exchange_seconds": exchange_seconds,
        "attempts": attempts,
        "schedule": None if schedule is None else tuple(w for w in schedule if w != "always"),
    }
    changes: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    defaults = load_coordinator_settings(folder)
    terms = {"name": optimiser, "learning_rate": server_learning_rate}
    named = {name: value for name, value in terms.items() if value is not None}
    if named:
        present = read_orders(folder).pace.over(defaults).server_optimiser
        changes["server_optimiser"] = present.model_dump() | named
    if changes or reset:
        orders = desk.set_pace(folder, defaults, changes, reset=reset)
        _note(folder, Action.PACE_CHANGED, json.dumps(changes | ({"reset": True} if reset else {})))
    else:
        orders = read_orders(folder)
    shown = {*given, "server_optimiser"}
    settings = orders.pace.over(defaults).model_dump(include=shown, mode="json")
    if as_json:
        typer.echo(json.dumps(settings))
        return
    ordered = orders.pace.model_dump(exclude_none=True)
    terms_now = settings.pop("server_optimiser")
    settings["server optimiser"] = f"{terms_now['name']}, learning rate {terms_now['learning_rate']:g}"
    for name, value in settings.items():
        mark = "  (ordered; else as coordinator.toml says)" if name.replace(" ", "_") in ordered else ""
        typer.echo(f"{name:18} {', '.join(value) or 'always' if isinstance(value, list) else value}{mark}")


def rollback(
    folder: Folder,
    release: Annotated[int, typer.Option(help="The release whose model is to be the newest again.")],
    as_json: AsJson = False,
) -> None:
    """Makes a new release with the model of an older one: nothing is taken out of the chain.

    A running coordinator does it between two rounds; this command waits for it. Where none runs, it is done at once.

    Example: sordino coordinator rollback --folder /var/lib/sordino/coordinator --release 12
    """
    from sordino_coordinator.control import desk
    from sordino_coordinator.control.audit import Action
    from sordino_platform.identity import Identity
    from sordino_platform.release import ReleaseStore

    store = ReleaseStore(folder / "releases", Identity.load(folder).charters)
    before = store.head().number
    if release == before:
        raise ConfigurationError(f"release {release} is the newest already")
    store.weights_path(release)  # raises where it is not kept, before anything is ordered
    desk.order_rollback(folder, release)
    _note(folder, Action.ROLLBACK_ORDERED, f"release {release}")
    _without_coordinator(folder)
    made = _made(store, before, release)
    facts: dict[str, Any] = {"ordered": release, "release": made}
    if as_json:
        typer.echo(json.dumps(facts))
    elif made is None:
        typer.echo(f"the coordinator is in a round: release {release} is restored when that has ended")
    else:
        typer.echo(f"release {made} restores release {release}; members take it with their next round")


def count(
    folder: Folder,
    cancel: Annotated[bool, typer.Option("--cancel", help="Take the order back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lets the next round count phrases into the shared memory, instead of training: one round, then training goes on.

    The charter must allow it (`sordino charter new --shared-memory`), and coordinator.toml must have a plan for it, as:
    [counts] noise_multiplier = 2.0, delta = 1e-6, window = 256, windows_per_unit = 4. What it costs each member is
    printed.

    Example: sordino coordinator count --folder /var/lib/sordino/coordinator
    """
    from sordino_coordinator.control import desk
    from sordino_coordinator.control.audit import Action
    from sordino_coordinator.settings import load_coordinator_settings
    from sordino_platform.founding_model import founding_parameters
    from sordino_platform.identity import Identity
    from sordino_platform.release import ReleaseStore
    from sordino_platform.round_limits import RoundLimits
    from sordino_privacy.accounting import epsilon

    if cancel:
        orders = desk.cancel_count(folder)
        _note(folder, Action.COUNT_CANCELLED)
        return _show(
            orders, "no count is ordered; a round that counts already ends as it would", as_json=as_json
        )
    settings, identity = load_coordinator_settings(folder), Identity.load(folder)
    if settings.counts is None:
        raise ConfigurationError(
            "coordinator.toml has no [counts]",
            hint="add: [counts] noise_multiplier = 2.0, delta = 1e-6, window = 256, windows_per_unit = 4",
        )
    charter = identity.charter
    fewest, shares = charter.smallest_sum(), charter.noise_shares()
    plan = settings.counts.plan(salt=0, fewest=fewest, shares=shares)
    limits = RoundLimits.of(charter, founding_parameters(charter.model))
    limits.require_plan(plan)
    newest = ReleaseStore(folder / "releases", identity.charters).head().number
    orders = desk.order_count(folder, newest=newest)
    _note(folder, Action.COUNT_ORDERED, f"after release {newest}")
    cost, alone = (epsilon([event], plan.delta).value for event in limits.costs(plan))
    threshold = plan.threshold(survivors=fewest, shares=shares)
    facts = {
        **orders.model_dump(mode="json"),
        "epsilon": cost,
        "epsilon_if_others_collude": alone,
        "delta": plan.delta,
        "threshold": threshold,
    }
    if as_json:
        return typer.echo(json.dumps(facts))
    typer.echo("the next round counts phrases; training goes on after it")
    typer.echo(
        f"by itself it costs each member epsilon {cost:.2f} at delta {plan.delta:g}; its ledger composes it"
    )
    if shares > 1:
        typer.echo(
            f"that is as the federation holds; if all others collude with the coordinator, epsilon {alone:.2f}"
        )
    return typer.echo(
        f"a phrase needs a count of {threshold:.0f} or more, in {plan.witnesses} members or more"
    )


def token(folder: Folder) -> None:
    """Says where the API's token is, and makes it where there is none. The token itself is not printed.

    Example: sordino coordinator token --folder /var/lib/sordino/coordinator
    """
    from sordino_coordinator.control.callers import TOKEN_FILE, token_of

    token_of(folder)
    typer.echo(f"{folder / TOKEN_FILE} (mode 0600); send it as `Authorization: Bearer`")
    typer.echo("to make it void: remove the file and restart the coordinator")


@audit_app.command("show")
def show(
    folder: Folder,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest entries.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists the newest entries, oldest first.

    Example: sordino coordinator audit show --folder /var/lib/sordino/coordinator --last 100
    """
    from sordino_coordinator.control.view import audit_facts

    entries = audit_facts(folder, last=last)
    if as_json:
        typer.echo(json.dumps(entries))
        return
    for entry in entries:
        typer.echo(
            f"{entry['sequence']:6} {entry['at']}  {entry['action']:18} {entry['by']:12} {entry['detail']}"
        )


@audit_app.command("verify")
def verify(
    folder: Folder,
    head: Annotated[
        str | None, typer.Option(help="A head that was noted earlier, hexadecimal: it must be in the log.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Checks the chain and every signature, and prints the head: note it elsewhere, and a cut end will show.

    Example: sordino coordinator audit verify --folder /var/lib/sordino/coordinator
    """
    from sordino_coordinator.control.audit import verify_audit
    from sordino_platform.identity import Identity

    try:
        noted = None if head is None else bytes.fromhex(head)
    except ValueError:
        raise UsageError("a head is hexadecimal", hint="as `audit verify` prints it") from None
    keys = frozenset(
        signed.charter.coordinator.identity_key for signed in Identity.load(folder).charters.chain()
    )
    count, newest = verify_audit(folder, keys=keys, head=noted)
    if as_json:
        typer.echo(json.dumps({"entries": count, "head": newest.hex()}))
        return
    typer.echo(f"{count} entries verified: every link of the chain, every signature\nhead {newest.hex()}")


def _note(folder: Path, action: Any, detail: str = "") -> None:
    from sordino_coordinator.control.audit import AuditLog
    from sordino_platform.identity import Identity

    AuditLog(folder, key=Identity.load(folder).signing_key).append(action, detail, by="command")


def _show(orders: Any, said: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(orders.model_dump(mode="json")) if as_json else said)


def _without_coordinator(folder: Path) -> None:
    """Makes an ordered rollback here, where no coordinator holds the folder."""

    from sordino_coordinator.federation import Federation
    from sordino_coordinator.folder_lock import take_lock
    from sordino_platform.telemetry import configure_logging

    try:
        lock = take_lock(folder)
    except StorageError:
        return  # it runs, and follows the order itself
    try:
        configure_logging(folder / "events.jsonl", console=False)
        federation = Federation.open(folder)
        federation.desk.roll_back()
        federation.rounds.close()
    finally:
        lock.close()


def _made(store: Any, before: int, restored: int) -> int | None:
    """The number of the release that a rollback made, when it is there within `WAIT_SECONDS`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        for signed in store.chain()[before + 1 :]:
            if signed.manifest.restores == restored:
                return int(signed.manifest.number)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)
