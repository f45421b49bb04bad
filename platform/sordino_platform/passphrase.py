"""Sources of a passphrase: a file, an open descriptor, an environment variable, or a question to the person.

Never an argument: arguments are seen by every user of the machine and stay in the shell's history. The passphrase is
one line, without the line break at its end.

    sordino charter sign root --passphrase-file /run/credentials/root
    sordino charter sign root --passphrase-fd 3 3< <(pass show sordino/root)
    SORDINO_ROOT=... sordino charter sign root --passphrase-env SORDINO_ROOT
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from sordino_platform.durable import read_secret
from sordino_privacy.errors import UsageError

MAX_BYTES: Final = 1024

FileOption: TypeAlias = Annotated[
    Path | None, typer.Option("--passphrase-file", help="Read the passphrase from this file (mode 0600).")
]
DescriptorOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--passphrase-fd", min=0, help="Read the passphrase from this open file descriptor."),
]
VariableOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--passphrase-env", help="Read the passphrase from the environment variable of this name."),
]


def named_passphrase(file: Path | None, descriptor: int | None, variable: str | None) -> str | None:
    """The passphrase from the one source that is named, or None when none is.

    Raises UsageError for more than one source, an unset variable, a descriptor that cannot be read, or a text that
    cannot be a passphrase; ConfigurationError for a file that others can read. No error repeats the text that was read.
    """
    if [file, descriptor, variable].count(None) < 2:
        raise UsageError(
            "the passphrase has more than one source", hint="name a file, a descriptor or a variable"
        )
    if file is not None:
        return _checked(read_secret(file, limit=MAX_BYTES), f"the file {file}")
    if descriptor is not None:
        return _checked(_read_all(descriptor), f"descriptor {descriptor}")
    if variable is None:
        return None
    if variable not in os.environ:
        raise UsageError(f"there is no environment variable {variable}", hint="export it, or name another")
    return _checked(os.environ[variable].encode(errors="surrogateescape"), f"the variable {variable}")


def root_passphrase(file: Path | None, descriptor: int | None, variable: str | None) -> Callable[[], str]:
    """The function to call when the root key needs its passphrase: it returns the passphrase of the named source, which
    is read now, or else asks the person. Raises as `named_passphrase`."""
    given = named_passphrase(file, descriptor, variable)
    return _ask if given is None else lambda: given


def _ask() -> str:
    return str(typer.prompt("passphrase of the root key", hide_input=True, err=True))


def _read_all(descriptor: int) -> bytes:
    data = b""
    try:
        while len(data) <= MAX_BYTES and (piece := os.read(descriptor, MAX_BYTES + 1)):
            data += piece
    except OSError as problem:
        raise UsageError(
            f"descriptor {descriptor} cannot be read: {(problem.strerror or '').lower()}",
            hint="open it for the command, for example with 3< FILE",
        ) from None
    return data


def _checked(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"the passphrase in {where} is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if len(data) > MAX_BYTES or not text or not text.isprintable():
        raise UsageError(
            f"{where} does not hold one line of at most {MAX_BYTES} bytes",
            hint="put the passphrase there alone",
        )
    return text
