"""The member's part of `sordino join`: writes member.toml from the join code, and runs the agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sordino_client.settings import FILE, MemberSettings, member_settings_text
from sordino_platform.durable import write_file
from sordino_platform.founding.code import JoinCode
from sordino_platform.settings import parse_settings


def settle(folder: Path, code: JoinCode, repositories: Sequence[Path]) -> Callable[[], None]:
    """Writes the settings where there are none; returns what runs the member. Raises ConfigurationError."""
    if not (folder / FILE).exists():
        asked: dict[str, object] = {
            "name": code.name,
            "coordinator": code.coordinator,
            "repositories": list(repositories),
        }
        settings = parse_settings(asked, MemberSettings, where="the join code")
        write_file(folder / FILE, member_settings_text(settings).encode(), secret=True, replace=False)

    def run() -> None:
        from sordino_client.agent.up import run_agent

        run_agent(folder)

    return run
