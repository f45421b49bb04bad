"""A real VS Code (code-server) with the packaged extension, in a real browser, driven through driver.mjs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.ports import free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "vscode"
ENTRY = BUILD / "node_modules" / "code-server" / "out" / "node" / "entry.js"
VSIX = ROOT / "client" / "vscode" / "dist" / "sordino.vsix"
STATUS = "#sordino\\.sordino\\.sordino"
START_SECONDS = 60.0


class NotSeenError(AssertionError):
    """The screen did not come to show what was waited for."""


class Editor:
    """What a person at the editor can do and see. Every wait ends in NotSeenError when it is in vain."""

    def __init__(self, driver: subprocess.Popen[str], pictures: Path) -> None:
        self._driver, self._pictures = driver, pictures
        self._taken = 0

    def do(self, action: str, **given: Any) -> Any:
        """One command of the driver."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps({"action": action, **given}) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        answer = json.loads(line) if line else {"error": "the driver ended"}
        if "error" in answer:
            self.picture("failure")
            raise NotSeenError(f"{action} {given}: {answer['error']}")
        return answer["value"]

    def picture(self, name: str) -> Path:
        """A screenshot, numbered in the order of the story."""
        self._taken += 1
        path = self._pictures / f"{self._taken:02d}-{name}.png"
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps({"action": "screenshot", "path": str(path)}) + "\n")
        self._driver.stdin.flush()
        self._driver.stdout.readline()
        return path

    def picture_of(self, left: int, top: int, width: int, height: int) -> bytes:
        """A part of the screen, in pixels, as PNG."""
        path = self._pictures / "part.png"
        self.do("screenshot", path=str(path), clip={"x": left, "y": top, "width": width, "height": height})
        taken = path.read_bytes()
        path.unlink()
        return taken

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, as in `Control+Shift+P`."""
        for key in keys:
            self.do("press", key=key)

    def type(self, text: str, *, delay: int = 30) -> None:
        """Types, `delay` milliseconds a key."""
        self.do("type", text=text, delay=delay)

    def command(self, title: str) -> None:
        """Runs a command by its title, as people do."""
        self.press("F1")
        self.type(title, delay=5)
        self.do("see", selector=".quick-input-list .monaco-list-row", text=title)
        self.press("Enter")

    def open_file(self, name: str) -> None:
        """Opens a file of the workspace from the explorer, and puts the cursor at its end."""
        self.press("Control+Shift+E")
        self.do("click", selector=".explorer-folders-view .label-name", text=name)
        self.do("see", selector=".tab.active .label-name", text=name)
        self.do("click", selector=".editor-group-container.active .view-lines")
        self.press("Control+End")

    def ghost(self, seconds: float = 10.0) -> str:
        """The suggestion on the screen, as soon as there is one."""
        return str(self.do("ghost", seconds=seconds))

    def ghost_now(self) -> str:
        """The suggestion on the screen, or an empty string."""
        return str(self.do("ghostNow"))

    def no_ghost(self, seconds: float) -> None:
        """Watches for a while that there is no suggestion."""
        self.do("noGhost", seconds=seconds)

    def status(self, text: str, seconds: float = 10.0) -> str:
        """The status bar's text, once it contains `text`."""
        return str(self.do("see", selector=STATUS, text=text, seconds=seconds))

    def see(self, selector: str, text: str, seconds: float = 10.0) -> str:
        """The text of the first element that contains `text`."""
        return str(self.do("see", selector=selector, text=text, seconds=seconds))

    def drawn(self, text: str, seconds: float = 10.0) -> None:
        """Waits until the editor draws `text` beside the file's own."""
        self.do("drawn", text=text, seconds=seconds)

    def dismiss_notices(self) -> None:
        """Clears all notifications."""
        self.command("Notifications: Clear All Notifications")

    def gone(self, selector: str, text: str, seconds: float = 10.0) -> None:
        """Waits until no such element contains `text` any more."""
        self.do("gone", selector=selector, text=text, seconds=seconds)

    def webview(self, text: str, seconds: float = 15.0) -> str:
        """The whole text of the page, in a web view, that contains `text`."""
        return str(self.do("webview", text=text, seconds=seconds))


@contextlib.contextmanager
def code_server(
    place: Path,
    workspace: Path,
    settings: Mapping[str, Any],
    machine: Mapping[str, Any],
    environment: Mapping[str, str],
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Installs the extension into a fresh profile and serves `workspace`; gives the address and the process."""
    profile, extensions = place / "profile", place / "extensions"
    for folder, chosen in (("User", settings), ("Machine", machine)):
        (profile / folder).mkdir(parents=True)
        (profile / folder / "settings.json").write_text(json.dumps(chosen))
    base = ["node", str(ENTRY), "--user-data-dir", str(profile), "--extensions-dir", str(extensions)]
    surroundings = {**os.environ, **environment}
    subprocess.run(
        [*base, "--install-extension", str(VSIX)], check=True, capture_output=True, env=surroundings
    )
    port = free_port()
    options = ["--auth", "none", "--disable-workspace-trust", "--disable-telemetry", "--disable-update-check"]
    with (place / "code-server.log").open("wb") as log:
        process = subprocess.Popen(
            [*base, *options, "--bind-addr", f"127.0.0.1:{port}", str(workspace)],
            stdout=log,
            stderr=log,
            env=surroundings,
        )
    try:
        until_listening(port)
        yield f"http://127.0.0.1:{port}/?folder={workspace}", process
    finally:
        process.terminate()
        process.wait()


def until_listening(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise NotSeenError("code-server does not listen")


@contextlib.contextmanager
def browser(pictures: Path) -> Iterator[Editor]:
    """Chromium with the driver attached."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing; `make test-vscode` installs it"
    driver = subprocess.Popen(
        ["node", str(HERE / "driver.mjs"), str(BUILD), chromium],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    editor = Editor(driver, pictures)
    try:
        yield editor
    finally:
        with contextlib.suppress(BrokenPipeError, NotSeenError):
            editor.do("close")
        driver.terminate()
        driver.communicate()


def extension_host(server: int) -> int:
    """The process below code-server in which extensions run."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if b"type=extensionHost" in command and server in ancestors(int(entry.name)):
                return int(entry.name)
    raise NotSeenError("no extension host runs")


def ancestors(pid: int) -> set[int]:
    """The processes above this one."""
    found: set[int] = set()
    while pid > 1:
        # The name in parentheses may hold anything: what follows it is counted from the last parenthesis.
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        found.add(pid)
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    pages = int((Path("/proc") / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def end_agent(member: Path) -> None:
    """Ends the agent that the extension started, by the number that it wrote down itself."""
    status = json.loads((member / "status.json").read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(status["pid"]), signal.SIGTERM)
