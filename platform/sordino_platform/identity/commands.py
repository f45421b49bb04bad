"""`sordino identity`: a party's keys and certificates, on its own machine and on the root's."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from sordino_platform.as_json import AsJson
from sordino_platform.charter import Role
from sordino_platform.durable import read_file, read_secret, write_file
from sordino_platform.identity import authority, site
from sordino_platform.identity.enrolment import MAX_REPLY_BYTES, EnrolmentToken
from sordino_platform.identity.facts import identity_facts
from sordino_platform.identity.renewal import MAX_BUNDLE_BYTES, RenewalBox, is_bundle
from sordino_platform.link.address import told_apart
from sordino_platform.pkcs11 import Pkcs11Uri
from sordino_privacy.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Keys and certificates. Private keys are made where they are used and never leave.\n\n"
    "A party joins in five steps: the root's holder invites; the party makes an identity and a request; the root's "
    "holder adds it to the charter (`sordino charter add`, `sign`) and approves; the party installs the reply.\n\n"
    "Example: sordino identity new acme --federation demo --name acme --organisation 'Acme Ltd'",
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The identity's folder.")]
RootFolder = Annotated[Path, typer.Argument(metavar="ROOT", help="The root folder, made by `charter new`.")]
Out = Annotated[Path | None, typer.Option(help="Where to write the file; standard output when left out.")]
KeyUri = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="pkcs11:...",
        help="Keep the identity's key in a PKCS#11 token: its URI (RFC 7512), with module-path and pin-source.",
    ),
]
IsCoordinator = Annotated[bool, typer.Option("--coordinator", help="The coordinator, not a member.")]


@app.command()
def new(
    folder: Folder,
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    name: Annotated[str, typer.Option(help="This party's name, a-z 0-9 and '-'.")],
    organisation: Annotated[str, typer.Option(help="The organisation, exactly as it was invited.")],
    coordinator: IsCoordinator = False,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A DNS name or address the coordinator is reached at; repeat for more."),
    ] = None,
    key: KeyUri = None,
    as_json: AsJson = False,
) -> None:
    """Make an identity key in FOLDER, or in a PKCS#11 token with --key. It is never replaced.

    A key file has mode 0600. In a token the key pair that the URI names is used, and made where there is none.

    Example: sordino identity new acme --federation demo --name acme --organisation "Acme Ltd"
    """
    names, addresses = told_apart(host or ())
    site.create(
        folder,
        federation=federation,
        role=_role(coordinator),
        name=name,
        organisation=organisation,
        dns_names=names,
        addresses=addresses,
        key=None if key is None else Pkcs11Uri.parse(key),
    )
    _show(folder, as_json=as_json)
    if not as_json:
        typer.echo(f"next: `sordino identity request {folder} --out {name}.request.json`")


@app.command()
def invite(
    root: RootFolder,
    name: Annotated[str, typer.Option(help="The name the token is good for.")],
    organisation: Annotated[str, typer.Option(help="The organisation the token is good for.")],
    coordinator: IsCoordinator = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the token to this file (mode 0600) instead of the screen.")
    ] = None,
) -> None:
    """Make an enrolment token: it lets one request in, under one name, within 14 days. It is shown once.

    Example: sordino identity invite root --name acme --organisation "Acme Ltd"
    """
    token = authority.invite(root, role=_role(coordinator), name=name, organisation=organisation)
    if out is None:
        typer.echo(token.text())
    else:
        write_file(out, f"{token.text()}\n".encode(), secret=True, replace=False)
        typer.echo(f"the token for {name} is in {out}; hand it over privately, it works once")


@app.command()
def request(
    folder: Folder,
    out: Out = None,
    token_file: Annotated[
        Path | None, typer.Option(help="The file that holds the token (mode 0600); asked for when left out.")
    ] = None,
) -> None:
    """Make the request to join. It is public: it holds neither the token nor a private key.

    Example: sordino identity request acme --token-file token --out acme.request.json
    """
    if token_file is None:
        # The token is never an option: arguments are visible to every user of the machine and stay in the shell's
        # history.
        text = str(typer.prompt("enrolment token", hide_input=True, err=True))
    else:
        text = read_secret(token_file, limit=1024).decode("ascii", "replace")
    _write(site.make_request(folder, token=EnrolmentToken.parse(text)), out)


@app.command()
def renew(folder: Folder, out: Out = None) -> None:
    """Make the request for a new certificate. The present one stays in use until the reply is installed.

    Example: sordino identity renew acme --out acme.request.json
    """
    site.open_charters(folder)  # a party that has not joined yet needs `request`, with a token
    _write(site.make_request(folder), out)


@app.command()
def pending(
    coordinator: Annotated[Path, typer.Argument(metavar="COORDINATOR", help="The coordinator's folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Write all of them into this one file, to be carried to the approver.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the renewals that wait at the coordinator, its own included, or write them into one file.

    Members ask by themselves, over their link, when a third of a certificate's life is left.

    Example: sordino identity pending /var/lib/sordino/coordinator --out renewals.json
    """
    box, now = RenewalBox(coordinator), datetime.now(UTC)
    box.ask_own(now)
    waiting = box.waiting()
    if out is not None:
        write_file(out, box.bundle())
    if as_json:
        rows = [{**asdict(one), "made_at": f"{one.made_at:%Y-%m-%dT%H:%M:%SZ}"} for one in waiting]
        typer.echo(json.dumps(rows, indent=1, sort_keys=True))
        return
    for one in waiting:
        typer.echo(f"{one.role} {one.name} of {one.organisation}, asked {one.made_at:%Y-%m-%d %H:%M} UTC")
    if not waiting:
        typer.echo("nobody waits for a certificate")
    elif out is None:
        typer.echo(f"next: `sordino identity approve ROOT --at {coordinator}`, or carry them with --out")
    else:
        typer.echo(f"wrote {out}; next: `sordino identity approve ROOT {out} --out renewed.json`")


@app.command()
def approve(
    root: RootFolder,
    requests: Annotated[
        Path | None,
        typer.Argument(
            metavar="[REQUEST]", help="A request of a party of the charter, or what `pending` wrote."
        ),
    ] = None,
    out: Out = None,
    at: Annotated[
        Path | None,
        typer.Option(help="Approve all that waits in this coordinator's folder, and deliver it there."),
    ] = None,
    validity: Annotated[int, typer.Option(min=1, max=397, help="How many days a certificate is valid.")] = 30,
) -> None:
    """Issue the certificates that parties of the signed charter ask for: one request, or all that wait at once.

    Reads the TLS authority's key, not the root key. The reply holds certificates and every charter; it is public. A
    party that was retired cannot be approved; a laptop that is off for weeks needs a longer --validity.

    Example: sordino identity approve root renewals.json --out renewed.json --validity 60
    """
    days = timedelta(days=validity)
    if at is not None:
        if requests is not None or out is not None:
            raise UsageError("--at takes its requests from the coordinator's folder and delivers there")
        replies, refused = authority.approve_all(root, RenewalBox(at).bundle(), validity=days)
        _say_refused(refused)
        _deliver(at, replies)
        return
    if requests is None:
        raise UsageError("nothing to approve", hint="name a request, or the coordinator's folder with --at")
    data = read_file(requests, limit=MAX_BUNDLE_BYTES)
    if is_bundle(data):
        replies, refused = authority.approve_all(root, data, validity=days)
        _say_refused(refused)
        _write(replies, out)
        return
    _write(authority.approve(root, data, validity=days), out)


@app.command()
def deliver(
    coordinator: Annotated[Path, typer.Argument(metavar="COORDINATOR", help="The coordinator's folder.")],
    replies: Annotated[Path, typer.Argument(metavar="RENEWED", help="What `approve` wrote.")],
) -> None:
    """Put approved renewals where the coordinator hands them to its members over their links. Nothing is restarted.

    Example: sordino identity deliver /var/lib/sordino/coordinator renewed.json
    """
    _deliver(coordinator, read_file(replies, limit=MAX_BUNDLE_BYTES))


@app.command("authority")
def renewal_authority_of(
    coordinator: Annotated[Path, typer.Argument(metavar="COORDINATOR", help="The coordinator's folder.")],
    out: Annotated[Path, typer.Option(help="Where to write its certificate, for the root's holder.")],
) -> None:
    """Make an authority that renews members' certificates online, in the coordinator's folder. Its key stays there.

    It issues nothing before a charter names it: `sordino charter new ROOT --renewal-authority FILE`, then sign. It can
    only let certificates live on: a TLS key counts with the endorsement of its member's identity key.

    Example: sordino identity authority /var/lib/sordino/coordinator --out renewals.pem
    """
    write_file(out, RenewalBox(coordinator).make_authority(datetime.now(UTC)))
    typer.echo(f"wrote {out}; next: `sordino charter new ROOT --renewal-authority {out}`")


@app.command()
def install(
    folder: Folder,
    reply: Annotated[Path, typer.Argument(metavar="REPLY", help="What `approve` wrote.")],
    root: Annotated[
        str | None, typer.Option(help="The root's fingerprint, from out of band; needed the first time.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a reply and put certificate and charter to use. Nothing changes when any part does not verify.

    Example: sordino identity install acme acme.reply.json --root tduz-3rg7-...
    """
    site.install(folder, read_file(reply, limit=MAX_REPLY_BYTES), root=root)
    _show(folder, as_json=as_json)


@app.command()
def retire(root: RootFolder, name: Annotated[str, typer.Argument(help="The member that leaves.")]) -> None:
    """Put a member out of the next epoch and retire its key for ever. Effective once that epoch is signed.

    Example: sordino identity retire root acme && sordino charter sign root
    """
    draft = authority.retire(root, name)
    typer.echo(f"{name} is out of the draft of epoch {draft.epoch}, its key is retired")
    typer.echo(
        f"next: `sordino charter sign {root}`, then `sordino charter accept` it in the coordinator's folder"
    )


@app.command()
def show(folder: Folder, as_json: AsJson = False) -> None:
    """Show an identity: name, key fingerprint, pinned root, charter, and how long its certificate is valid.

    Example: sordino identity show acme
    """
    _show(folder, as_json=as_json)


def _deliver(coordinator: Path, replies: bytes) -> None:
    served, refused = RenewalBox(coordinator).deliver(replies, now=datetime.now(UTC))
    _say_refused(refused)
    typer.echo(f"{len(served)} certificate(s) delivered: {', '.join(served) or 'none'}")


def _say_refused(refused: Sequence[str]) -> None:
    for line in refused:
        typer.secho(f"not approved: {line}", fg=typer.colors.YELLOW, err=True)


def _role(coordinator: bool) -> Role:
    return "coordinator" if coordinator else "member"


def _write(data: bytes, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(data.decode("ascii"))
    else:
        write_file(out, data)
        typer.echo(f"wrote {out}")


def _show(folder: Path, *, as_json: bool) -> None:
    facts = identity_facts(folder, now=datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(facts, indent=1, sort_keys=True))
        return
    for name, value in facts.items():
        if value is not None and name != "problem":
            typer.echo(f"{name.replace('_', ' '):<24}{value}")
    if facts["problem"]:
        typer.secho(str(facts["problem"]), fg=typer.colors.YELLOW)
