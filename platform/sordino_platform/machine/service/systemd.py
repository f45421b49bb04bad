"""Linux: a unit of the user's own systemd (systemd.service, systemd.exec)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sordino_platform.machine.service.definition import UserService

UNIT: Final = """# Written by `sordino serve --install`; removed by `sordino serve --uninstall`.
[Unit]
Description={description}
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=exec
ExecStart={command}
Restart=on-failure
RestartSec=10
# 2 usage, 3 configuration, 4 data: starting again cannot help before somebody changes something.
RestartPreventExitStatus=2 3 4
MemoryMax={memory}
TasksMax=64
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET
SystemCallArchitectures=native

[Install]
WantedBy=default.target
"""


class Systemd:
    """See `definition.Manager`."""

    program = "systemctl"
    called = "systemd"

    def place(self, name: str) -> Path:
        base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return Path(base) / "systemd" / "user" / f"{name}.service"

    def definition(self, service: UserService) -> bytes:
        command = " ".join(map(quoted, service.command))
        return UNIT.format(
            description=service.description, command=command, memory=service.memory_bytes
        ).encode()

    def starting(self, name: str) -> list[list[str]]:
        return [self._order("daemon-reload"), self._order("enable", "--now", f"{name}.service")]

    def ending(self, name: str) -> list[list[str]]:
        return [self._order("disable", "--now", f"{name}.service")]

    def forgetting(self) -> list[list[str]]:
        return [self._order("daemon-reload")]

    def log(self, name: str) -> str:
        return f"journalctl --user -u {name}.service"

    def _order(self, *words: str) -> list[str]:
        return [self.program, "--user", *words]


def quoted(word: str) -> str:
    """A word of ExecStart, quoted for systemd (systemd.service, "Command lines")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
