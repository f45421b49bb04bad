"""Windows: a task of the user in the Task Scheduler (schtasks, Task Scheduler Schema).

A task, not a service: a Windows service runs before anybody logs in, and an administrator must install it. A task needs
neither. It has less than systemd: no exit code that says that a restart cannot help (it tries again five times), no
memory limit, and no log. The program's output is lost; its `events.jsonl` is kept.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from sordino_platform.machine.service.definition import UserService

# schtasks itself writes UTF-16 with a byte order mark, and every version of it can read only that.
ENCODING: Final = "utf-16"
TASK: Final = """<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>{description}</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowHardTerminate>true</AllowHardTerminate>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>5</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{program}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


class TaskScheduler:
    """See `definition.Manager`."""

    program = "schtasks"
    called = "Task Scheduler"

    def place(self, name: str) -> Path:
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(base) / "sordino" / f"{name}.xml"

    def definition(self, service: UserService) -> bytes:
        program, *arguments = service.command
        return TASK.format(
            description=escape(service.description),
            user=escape(user()),
            program=escape(windowless(program)),
            # Words quoted as the C runtime parses them, then escaped as XML.
            arguments=escape(subprocess.list2cmdline(arguments)),
        ).encode(ENCODING)

    def starting(self, name: str) -> list[list[str]]:
        return [
            [self.program, "/Create", "/F", "/TN", name, "/XML", str(self.place(name))],
            [self.program, "/Run", "/TN", name],
        ]

    def ending(self, name: str) -> list[list[str]]:
        return [[self.program, "/End", "/TN", name], [self.program, "/Delete", "/F", "/TN", name]]

    def forgetting(self) -> list[list[str]]:
        return []

    def log(self, name: str) -> str:
        return "events.jsonl in the folder that it serves"


def user() -> str:
    """The logged-in user as DOMAIN\\NAME, or only NAME when there is no domain."""
    domain, name = os.environ.get("USERDOMAIN", ""), os.environ.get("USERNAME", "")
    return f"{domain}\\{name}" if domain else name


def windowless(program: str) -> str:
    """The interpreter that opens no console window, if it lies beside `program`."""
    path = Path(program)
    beside = path.with_name("pythonw.exe")
    return str(beside) if path.name.lower() == "python.exe" and beside.exists() else program
