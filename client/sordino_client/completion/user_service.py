"""`sordino serve --install`: the endpoint as a service of the user. No root, no port beyond loopback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sordino_client.completion.showing.worth import Show
from sordino_platform.machine import service
from sordino_platform.machine.service import UserService

NAME: Final = "sordino-serve"


def definition(
    folder: Path, repositories: Sequence[Path], *, model: Path | None, port: int, show: Show = "balanced"
) -> UserService:
    """The service that serves `repositories` from `folder`. Raises UsageError for a path that it cannot name."""
    command = [sys.executable, "-P", "-m", "sordino_platform.cli", "serve", "--folder", str(folder)]
    for repository in repositories:
        command += ["--repo", str(repository)]
    if model is not None:
        command += ["--model", str(model.expanduser().absolute())]
    command += ["--port", str(port), "--show", show]
    return UserService(name=NAME, description="sordino completions for one person", command=command)


def install(folder: Path, repositories: Sequence[Path], *, model: Path | None, port: int, show: Show) -> str:
    """Installs and starts it; says where it lies and where its log is. Raises ConfigurationError or StorageError."""
    found = service.install(definition(folder, repositories, model=model, port=port, show=show))
    return f"installed {found.place(NAME)}; its log: {found.log(NAME)}"


def remove() -> None:
    """Stops and removes it. Raises ConfigurationError or StorageError."""
    service.remove(NAME)
