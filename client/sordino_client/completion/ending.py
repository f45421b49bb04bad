"""Ends a process of the endpoint that cannot go on: with a message for its parent, and with the error's own code."""

from __future__ import annotations

import sys

from sordino_privacy.errors import SordinoError


def tell_and_end(error: SordinoError) -> int:
    """Writes the error and what to do about it to stderr; returns the exit code."""
    print(f"error: {error.message}\nwhat to do: {error.hint}", file=sys.stderr)  # noqa: T201
    return error.exit_code
