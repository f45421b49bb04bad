"""One target under a coverage-guided fuzzer, in its own process: `python -m tests.fuzz.fuzz TARGET SECONDS FOLDER`.

What breaks it is left in FOLDER, as the bytes that do. Ends with 0 when nothing did.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from sordino_platform.machine.processes import hold_to

LARGEST = 2 << 30
INSTRUMENTED = ["sordino_platform", "sordino_privacy.secagg", "flwr.common.serde", "flwr.app"]


def main(name: str, seconds: int, folder: Path) -> None:
    """Fuzzes until something breaks or the time is over; does not return."""
    os.nice(15)
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        targets = importlib.import_module("tests.fuzz.targets")
    target = targets.TARGETS[name]()
    hold_to(LARGEST, os.abort)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={target.longest}",
        "-timeout=20",
        "-rss_limit_mb=0",  # it would count what the process that started this one had at most
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
