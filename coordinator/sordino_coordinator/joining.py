"""What `sordino join` does for the coordinator: writes coordinator.toml from the join code, and runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sordino_coordinator.settings import FILE, coordinator_settings_text, first_settings
from sordino_platform.durable import write_file
from sordino_platform.founding.code import JoinCode
from sordino_platform.link.address import parse_address


def settle(folder: Path, code: JoinCode, folders: Sequence[Path]) -> Callable[[], None]:
    """Writes the settings where there are none: it listens on every address of this machine, at the port that members
    were told; `folders` of public code measure each release. Returns what runs the coordinator.

    Raises ConfigurationError, LinkError.
    """
    if not (folder / FILE).exists():
        _, port = parse_address(code.coordinator)
        settings = first_settings(folder, listen=f"0.0.0.0:{port}", heldout=folders)
        write_file(folder / FILE, coordinator_settings_text(settings).encode(), secret=True, replace=False)

    def run() -> None:
        from sordino_coordinator.up import run_coordinator

        run_coordinator(folder)

    return run
