"""The option `--json` of every command that prints figures: one name, and one sentence in `--help`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
FiguresAsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the figures as JSON on stdout.")
]
