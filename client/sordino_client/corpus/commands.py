"""`sordino client corpus`: what training would read of a repository, and what it leaves out and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_platform.as_json import FiguresAsJson

if TYPE_CHECKING:
    from sordino_client.corpus.corpus import Corpus


def corpus(
    repo: Annotated[
        list[Path],
        typer.Option("--repo", metavar="DIR", help="A folder of source code, or a CoDesc file; repeatable."),
    ],
    language: Annotated[
        list[str] | None, typer.Option("--language", help="Take only this language; repeatable.")
    ] = None,
    as_json: FiguresAsJson = False,
) -> None:
    """Shows what training would read of your repositories, and what it leaves out and why.

    Nothing is trained, stored or sent. Secrets are counted, never shown.

    Example: sordino client corpus --repo ~/work/billing --repo ~/work/ledger
    """
    from sordino_client.corpus.policy import CorpusPolicy
    from sordino_client.corpus.reader import read_repositories

    policy = CorpusPolicy(languages=frozenset(language or ()))
    read = read_repositories(repo, policy=policy)
    report = describe(read)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _show(read, report)


def describe(read: Corpus) -> dict[str, object]:
    """The figures of a corpus, ready for JSON: no text and no names of files."""
    from sordino_client.corpus.registry import UnitRegistry

    with UnitRegistry() as registry:
        found = len(set(registry.assign(read.files)))
    return {
        "sources": list(read.sources),
        "files": len(read.files),
        "lines": read.lines,
        "bytes": read.bytes,
        "units": found,
        "fingerprint": read.fingerprint,
        "languages": {
            name: {"files": share.files, "bytes": share.bytes} for name, share in read.languages.items()
        },
        "excluded": {str(reason): count for reason, count in read.excluded.items()},
        "secret_rules": {
            rule: {"left_out": count.left_out, "masked": count.masked}
            for rule, count in read.secret_rules.items()
        },
    }


def _show(read: Corpus, report: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    languages = Table(title="Taken", title_justify="left")
    for heading, side in (("language", "left"), ("files", "right"), ("bytes", "right")):
        languages.add_column(heading, justify="right" if side == "right" else "left")
    for name, share in read.languages.items():
        languages.add_row(name, f"{share.files:,}", f"{share.bytes:,}")
    languages.add_section()
    languages.add_row("all", f"{len(read.files):,}", f"{read.bytes:,}")
    console.print(languages)
    if read.excluded:
        left_out = Table(title="Left out", title_justify="left")
        left_out.add_column("reason")
        left_out.add_column("entries", justify="right")
        for reason, count in sorted(read.excluded.items(), key=lambda item: -item[1]):
            left_out.add_row(reason, f"{count:,}")
        console.print(left_out)
    if read.secret_rules:
        secrets = Table(title="Credentials", title_justify="left")
        secrets.add_column("rule")
        for heading in ("files left out", "literals masked"):
            secrets.add_column(heading, justify="right")
        for rule, did in read.secret_rules.items():
            secrets.add_row(rule, f"{did.left_out:,}", f"{did.masked:,}")
        console.print(secrets)
    console.print(
        f"{report['units']:,} units of privacy (near-duplicate files count as one), {read.lines:,} lines"
    )
