"""Runs a measurement in a separate process, so that its peak memory and its threads belong to it alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from sordino_client.training.worker import ENVIRONMENT


def measured_apart(module: str, function: str, *arguments: object, threads: int = 1) -> Any:
    """The result of `module.function` with these arguments. Arguments and result are JSON.

    Raises RuntimeError when the process fails; the reason is on stderr.
    """
    code = f"import json; from {module} import {function} as f; print(json.dumps(f{arguments!r}))"
    count = str(threads)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"a measurement ended with {done.returncode}")
    return json.loads(done.stdout)
