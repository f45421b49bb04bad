"""macOS: an agent of the user's own launchd (launchd.plist(5), launchctl(1)).

Lacking, beside systemd: launchd knows no exit code after which starting again cannot help, so it tries again each
`ThrottleInterval`; it has no limit on memory that the system keeps, and no way to hold a program to loopback addresses.
"""

from __future__ import annotations

import os
import plistlib
from pathlib import Path
from typing import Final

from sordino_platform.machine.service.definition import UserService

DOMAIN: Final = "org.sordino"
AGAIN_SECONDS: Final = 60
UMASK: Final = 0o077


class Launchd:
    """See `definition.Manager`."""

    program = "launchctl"
    called = "launchd"

    def place(self, name: str) -> Path:
        return Path.home() / "Library" / "LaunchAgents" / f"{label(name)}.plist"

    def definition(self, service: UserService) -> bytes:
        return plistlib.dumps(
            {
                "Label": label(service.name),
                "ProgramArguments": list(service.command),
                "RunAtLoad": True,
                "KeepAlive": {"SuccessfulExit": False},
                "ThrottleInterval": AGAIN_SECONDS,
                # Of a person's own work the processor and the disk come first.
                "ProcessType": "Background",
                "LowPriorityIO": True,
                "Umask": UMASK,
                "HardResourceLimits": {"Core": 0},
                "StandardOutPath": self.log(service.name),
                "StandardErrorPath": self.log(service.name),
            },
            sort_keys=False,
        )

    def starting(self, name: str) -> list[list[str]]:
        return [[self.program, "bootstrap", session(), str(self.place(name))]]

    def ending(self, name: str) -> list[list[str]]:
        return [[self.program, "bootout", f"{session()}/{label(name)}"]]

    def forgetting(self) -> list[list[str]]:
        return []

    def log(self, name: str) -> str:
        return str(Path.home() / "Library" / "Logs" / f"{name}.log")


def label(name: str) -> str:
    """What launchd calls it: `org.sordino.serve` for `sordino-serve`."""
    return f"{DOMAIN}.{name.removeprefix('sordino-')}"


def session() -> str:
    """The user's own graphical session."""
    return f"gui/{os.getuid()}"
