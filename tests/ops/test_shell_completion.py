"""What `sordino --install-completion` gives a shell, in a real bash: commands, the commands below them, options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BASH = """
eval "$(sordino --show-completion bash)"
complete -p sordino >/dev/null
for line in "sordino cl" "sordino client led" "sordino coordinator follow --on"; do
    COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _sordino_completion sordino
    echo "${COMPREPLY[*]}"
done
"""


def test_bash_completes_commands_what_is_below_them_and_options() -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-euc", BASH],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n") == ["client", "ledger", "--once", ""], done.stderr
