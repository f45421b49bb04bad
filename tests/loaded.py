"""What a module loads, with all that it imports: asked of a Python of its own, where nothing else was loaded before."""

from __future__ import annotations

import json
import subprocess
import sys


def loaded_by(*modules: str) -> set[str]:
    """The names in `sys.modules` after these were imported."""
    code = f"import sys, json, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))
