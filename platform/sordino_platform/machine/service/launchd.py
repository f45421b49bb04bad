"""macOS: an agent of the user's own launchd (launchd.plist(5), launchctl(1)).

It has less than systemd. There is no exit code that says that a restart cannot help, so launchd tries again every
`ThrottleInterval`. It has no enforced memory limit, and it cannot restrict a program to loopback addresses.
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
                # The person's own work comes first at the processor and the disk.
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
    """launchd's name for it: `org.sordino.serve` for `sordino-serve`."""
    return f"{DOMAIN}.{name.removeprefix('sordino-')}"


def session() -> str:
    """launchd's domain of the user's own graphical session."""
    return f"gui/{os.getuid()}"
