"""`sordino ...` in this process."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from sordino_platform.cli import as_command


def commanded(name: str, target: Any, *words: str, fed: str = "") -> Result:
    """Runs the command `target` by its name with these words and `fed` on stdin; an error of ours is raised."""
    result = CliRunner().invoke(as_command(name, target), list(words), input=fed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result
