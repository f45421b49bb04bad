"""The root of every error that sordino raises on purpose.

    SordinoError                      a person can act on it; carries a hint and an exit code
    ├── UsageError            (2)     unknown setting, wrong argument
    ├── ConfigurationError    (3)     charter, identity or settings file cannot be used
    ├── DataError             (4)     repository unreadable, empty, or too small to be private
    ├── BudgetError           (5)     the privacy budget would be exceeded
    ├── LinkError             (6)     TLS refused, peer unreachable, peer broke the protocol
    ├── PortInUseError        (7)     another process listens there
    ├── StorageError          (8)     disk full, file unreadable, state damaged
    ├── RefusalError          (9)     the secure-aggregation protocol refused a message (see secagg.refusals)
    ├── TrainingError         (10)    the trainer stopped without an update (sordino_client.training)
    ├── RoundsFailedError     (11)    round after round ended without a release (sordino_coordinator.strategy)
    └── AuditError            (12)    the training engine does not do what it claims (sordino_client.training.audit)

The number is the exit code of the `sordino` command; 0 is success, 1 an unexpected error (a bug), 130 an
interrupt (Ctrl-C). The tree lives in the lowest package because every package raises errors of it.
"""

from __future__ import annotations

from typing import ClassVar


class SordinoError(Exception):
    """An error with one clear sentence for the person who sees it, and a hint that says what to do next.

    The message and hint must never hold code, prompts, updates, keys or tokens: they are printed and logged.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SordinoError):
    """An unknown setting or a wrong argument."""

    exit_code = 2


class ConfigurationError(SordinoError):
    """A charter, an identity or a settings file that cannot be used."""

    exit_code = 3


class DataError(SordinoError):
    """A repository that is unreadable, empty, or too small to be private."""

    exit_code = 4


class BudgetError(SordinoError):
    """The privacy budget would be exceeded."""

    exit_code = 5


class LinkError(SordinoError):
    """The link was refused, is unreachable, or the peer broke its protocol."""

    exit_code = 6


class PortInUseError(SordinoError):
    """Another process listens on the port that was asked for."""

    exit_code = 7


class StorageError(SordinoError):
    """The disk is full, a file is unreadable, or durable state is damaged."""

    exit_code = 8


class RefusalError(SordinoError):
    """The secure-aggregation protocol refused a message."""

    exit_code = 9
