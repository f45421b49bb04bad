"""What a service of the user is, whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sordino_privacy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class UserService:
    """A program that runs from each login on, as the user, and is started again when it fails.

    `name` is of small letters and hyphens; `command` is the program, by its whole path, and its arguments. It may take
    `memory_bytes` where the system bounds that.
    """

    name: str
    description: str
    command: Sequence[str]
    memory_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        """Raises UsageError for a word that no service can name: line breaks and other control characters."""
        if not all(word.isprintable() for word in self.command):
            raise UsageError(
                "a folder's name holds a character that a service cannot name", hint="rename the folder"
            )


class Manager(Protocol):
    """What runs services of a user. It decides; `service.install` and `service.remove` act."""

    program: str  # what must be installed for it
    called: str  # its name in a sentence

    def place(self, name: str) -> Path:
        """Where the definition of a service lies."""
        ...

    def definition(self, service: UserService) -> bytes:
        """The file that defines it."""
        ...

    def starting(self, name: str) -> list[list[str]]:
        """The commands, in order, that start a service whose definition lies in its place, now and at each login."""
        ...

    def ending(self, name: str) -> list[list[str]]:
        """The commands that end it for good."""
        ...

    def forgetting(self) -> list[list[str]]:
        """The commands once its definition is gone."""
        ...

    def log(self, name: str) -> str:
        """Where its output goes: a command or a file."""
        ...
