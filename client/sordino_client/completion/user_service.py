"""`sordino serve --install`: the endpoint as a service of the user's own systemd. No root, no port beyond loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sordino_client.completion.showing.worth import Show
from sordino_platform.durable import write_file
from sordino_privacy.errors import ConfigurationError, StorageError, UsageError

NAME: Final = "sordino-serve.service"
UNIT: Final = """# Written by `sordino serve --install`; removed by `sordino serve --uninstall`.
[Unit]
Description=sordino completions for one person
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=exec
ExecStart={command}
Restart=on-failure
RestartSec=10
# 2 usage, 3 configuration, 4 data: starting again cannot help before somebody changes something.
RestartPreventExitStatus=2 3 4
MemoryMax=2G
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


def place() -> Path:
    """Where the user's own units lie (XDG base directories)."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "systemd" / "user" / NAME


def unit(
    folder: Path, repositories: Sequence[Path], *, model: Path | None, port: int, show: Show = "balanced"
) -> str:
    """The unit's text. Raises UsageError for a path that a unit cannot name."""
    command = [sys.executable, "-P", "-m", "sordino_platform.cli", "serve", "--folder", str(folder)]
    for repository in repositories:
        command += ["--repo", str(repository)]
    if model is not None:
        command += ["--model", str(model.expanduser().absolute())]
    command += ["--port", str(port), "--show", show]
    return UNIT.format(command=" ".join(map(quoted, command)))


def quoted(word: str) -> str:
    """A word of ExecStart, as systemd reads it (systemd.service, "Command lines"). Raises UsageError."""
    if not word.isprintable():
        raise UsageError(
            "a folder's name holds a character that a service cannot name", hint="rename the folder"
        )
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def install(folder: Path, repositories: Sequence[Path], *, model: Path | None, port: int, show: Show) -> Path:
    """Writes, enables and starts the unit; gives its path. Raises ConfigurationError or StorageError."""
    path, text = place(), unit(folder, repositories, model=model, port=port, show=show)
    _require_systemd()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode(), secret=True)
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", NAME)
    return path


def remove() -> None:
    """Stops, disables and removes the unit. Raises ConfigurationError or StorageError."""
    _require_systemd()
    if place().exists():
        _systemctl("disable", "--now", NAME)
        try:
            place().unlink()
        except OSError as error:
            raise StorageError("the unit cannot be removed", hint=f"remove {place()}") from error
        _systemctl("daemon-reload")


def _require_systemd() -> None:
    if shutil.which("systemctl") is None:
        raise ConfigurationError(
            "there is no systemd on this machine",
            hint="run `sordino serve` in a terminal, or by your own means",
        )


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", "--user", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ConfigurationError(
            f"systemctl --user {arguments[0]} failed: {said[0]}",
            hint="is a user's systemd running? Otherwise run `sordino serve` in a terminal",
        )
