"""What runs a user's programs from each login on: systemd, launchd or the Task Scheduler. No root.

Each says where a definition lies, what stands in it, and which commands start and end it. It is done in
`sordino_platform.user_services`.
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
