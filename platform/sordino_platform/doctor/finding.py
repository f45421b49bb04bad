"""The result of a check: a state, one line, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sordino_privacy.errors import SordinoError


class CheckState(StrEnum):
    """How a check ended. A warning says that something will fail later, or that a person should know something."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report. `exit_code` is the exit code that a program would have had with this failure; 0 unless
    the check failed."""

    check: str
    state: CheckState
    said: str
    hint: str = ""
    exit_code: int = 0


def ok(check: str, said: str) -> Finding:
    """All is well."""
    return Finding(check=check, state=CheckState.OK, said=said)


def warning(check: str, said: str, hint: str) -> Finding:
    """It works, and somebody should act."""
    return Finding(check=check, state=CheckState.WARNING, said=said, hint=hint)


def failed(check: str, said: str, hint: str, *, exit_code: int) -> Finding:
    """It does not work."""
    return Finding(check=check, state=CheckState.FAILED, said=said, hint=hint, exit_code=exit_code)


def checked(check: str, look: Callable[[], Finding | str]) -> Finding:
    """The finding of `look`. An error that it raises becomes the finding. A plain text means that all is well."""
    try:
        found = look()
    except SordinoError as error:
        return failed(check, error.message, error.hint, exit_code=error.exit_code)
    except OSError as error:
        return failed(
            check,
            f"{error.filename or 'a file'}: {error.strerror}",
            "check the path and its owner",
            exit_code=8,
        )
    return ok(check, found) if isinstance(found, str) else found
