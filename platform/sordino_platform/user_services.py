"""Installs and removes a program that runs from each login on, as the user. No root is needed.

found = install(UserService(name="sordino-serve", description="...", command=[sys.executable, ...]))
"""

from __future__ import annotations

import subprocess

from sordino_platform.durable import write_file
from sordino_platform.machine.service import Manager, UserService, manager
from sordino_privacy.errors import ConfigurationError, StorageError


def install(service: UserService) -> Manager:
    """Defines and starts `service`; returns its manager. Raises ConfigurationError or StorageError."""
    found = manager()
    place = found.place(service.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():  # an earlier one runs with other arguments, and launchd would refuse a second one
        _obey(found, found.ending(service.name), must=False)
    write_file(place, found.definition(service), secret=True)
    _obey(found, found.starting(service.name))
    return found


def remove(name: str) -> None:
    """Ends the service and removes its definition, if it is installed. Raises ConfigurationError or StorageError."""
    found = manager()
    place = found.place(name)
    if not place.exists():
        return
    _obey(found, found.ending(name))
    try:
        place.unlink()
    except OSError as error:
        raise StorageError("the service cannot be removed", hint=f"remove {place}") from error
    _obey(found, found.forgetting())


def _obey(found: Manager, commands: list[list[str]], *, must: bool = True) -> None:
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and must:
            said = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise ConfigurationError(
                f"{' '.join(command[:3])} failed: {said[0]}",
                hint=f"does {found.called} run for this user? Otherwise run it in a terminal",
            )
