"""The definition of a user's service, the same for every manager."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sordino_privacy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class UserService:
    """A program that runs from each login on, as the user, and is started again when it fails.

    `name` has lower-case letters and hyphens; `command` is the program's full path, and its arguments. `memory_bytes`
    is its limit of memory, on systems that can enforce one.
    """

    name: str
    description: str
    command: Sequence[str]
    memory_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        """Raises UsageError for a word that a definition cannot hold: with line breaks or other control characters."""
        if not all(word.isprintable() for word in self.command):
            raise UsageError(
                "a folder's name holds a character that a service cannot name", hint="rename the folder"
            )


class Manager(Protocol):
    """A manager of a user's services. It only decides; `service.install` and `service.remove` act."""

    program: str  # the program that must be installed for it
    called: str  # its name in a sentence

    def place(self, name: str) -> Path:
        """The path of a service's definition."""
        ...

    def definition(self, service: UserService) -> bytes:
        """The file that defines it."""
        ...

    def starting(self, name: str) -> list[list[str]]:
        """The commands, in order, that start a service now and at each login. Its definition must already be
        written."""
        ...

    def ending(self, name: str) -> list[list[str]]:
        """The commands that end it for good."""
        ...

    def forgetting(self) -> list[list[str]]:
        """The commands to run after its definition was removed."""
        ...

    def log(self, name: str) -> str:
        """Where its output goes: a command or a file."""
        ...
