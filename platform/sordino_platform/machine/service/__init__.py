"""A program that runs from each login on, as the user: by systemd, launchd or the Task Scheduler. No root.

place = install(UserService(name="sordino-serve", description="...", command=[sys.executable, ...]))
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

from sordino_platform.durable import write_file
from sordino_platform.machine.service.definition import Manager, UserService
from sordino_platform.machine.service.launchd import Launchd
from sordino_platform.machine.service.systemd import Systemd
from sordino_platform.machine.service.task_scheduler import TaskScheduler
from sordino_privacy.errors import ConfigurationError, StorageError

__all__ = ["Manager", "UserService", "install", "manager", "remove"]

# A system has one of them; the first whose program is installed.
MANAGERS: Final[tuple[Manager, ...]] = (Systemd(), Launchd(), TaskScheduler())


def manager() -> Manager:
    """What runs a user's services here. Raises ConfigurationError where nothing does."""
    for one in MANAGERS:
        if shutil.which(one.program) is not None:
            return one
    raise ConfigurationError(
        "there is no systemd on this machine, no launchd and no Task Scheduler",
        hint="run it in a terminal, or by your own means",
    )


def install(service: UserService) -> Manager:
    """Defines and starts `service`; gives what runs it. Raises ConfigurationError or StorageError."""
    found = manager()
    place = found.place(service.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():  # an earlier one runs with other words; launchd would refuse a second
        _obey(found, found.ending(service.name), must=False)
    write_file(place, found.definition(service), secret=True)
    _obey(found, found.starting(service.name))
    return found


def remove(name: str) -> None:
    """Ends the service and removes its definition, where it is installed. Raises ConfigurationError or StorageError."""
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
