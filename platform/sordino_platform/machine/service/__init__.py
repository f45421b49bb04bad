"""The system that runs a user's programs from each login on: systemd, launchd or the Task Scheduler. No root is needed.

Each gives the path of a definition, its text, and the commands that start and end it. `sordino_platform.user_services`
carries this out.
"""

from __future__ import annotations

import shutil
from typing import Final

from sordino_platform.machine.service.definition import Manager, UserService
from sordino_platform.machine.service.launchd import Launchd
from sordino_platform.machine.service.systemd import Systemd
from sordino_platform.machine.service.task_scheduler import TaskScheduler
from sordino_privacy.errors import ConfigurationError

__all__ = ["Manager", "UserService", "manager"]

# A system has one of them: the first whose program is installed.
MANAGERS: Final[tuple[Manager, ...]] = (Systemd(), Launchd(), TaskScheduler())


def manager() -> Manager:
    """The manager of a user's services here. Raises ConfigurationError when there is none."""
    for one in MANAGERS:
        if shutil.which(one.program) is not None:
            return one
    raise ConfigurationError(
        "there is no systemd on this machine, no launchd and no Task Scheduler",
        hint="run it in a terminal, or by your own means",
    )
