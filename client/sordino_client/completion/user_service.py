"""`sordino serve --install`: the endpoint as a service of the user. No root, no port beyond loopback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sordino_client.completion.showing.worth import Show
from sordino_platform import user_services
from sordino_platform.bases import find_base
from sordino_platform.bases.memory import require_room
from sordino_platform.machine.service import UserService

NAME: Final = "sordino-serve"
LEAST_BYTES: Final = 2 << 30


def definition(
    folder: Path,
    repositories: Sequence[Path],
    *,
    model: Path | None,
    base: str | None = None,
    port: int,
    show: Show = "balanced",
) -> UserService:
    """The service that serves `repositories` from `folder`. Raises UsageError for a path that it cannot name,
    ConfigurationError for a base that is not here or too large."""
    memory = LEAST_BYTES
    command = [sys.executable, "-P", "-m", "sordino_platform.cli", "serve", "--folder", str(folder)]
    for repository in repositories:
        command += ["--repo", str(repository)]
    if model is not None:
        command += ["--model", str(model.expanduser().absolute())]
    if base is not None:
        found = find_base(base)
        require_room(found.serving_bytes(), purpose="serving", name=found.name)
        # While it is loaded, its tables lie there in float32 too.
        memory = max(memory, 3 * found.serving_bytes())
        place = Path(base).expanduser()
        # A folder is named from the root on: the service begins elsewhere.
        command += ["--base", str(place.absolute()) if found.place == place.resolve() else base]
    command += ["--port", str(port), "--show", show]
    return UserService(
        name=NAME, description="sordino completions for one person", command=command, memory_bytes=memory
    )


def install(
    folder: Path,
    repositories: Sequence[Path],
    *,
    model: Path | None,
    base: str | None = None,
    port: int,
    show: Show,
) -> str:
    """Installs and starts it; says where it lies and where its log is. Raises ConfigurationError or StorageError."""
    found = user_services.install(
        definition(folder, repositories, model=model, base=base, port=port, show=show)
    )
    return f"installed {found.place(NAME)}; its log: {found.log(NAME)}"


def remove() -> None:
    """Stops and removes it. Raises ConfigurationError or StorageError."""
    user_services.remove(NAME)
