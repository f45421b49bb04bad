"""Other scanners on the same files, if they are on the PATH: gitleaks, betterleaks, kingfisher, credsweeper,
detect-secrets.

Each is run as its own command, offline, with the rules that it ships. The count favours the peer: a planted file counts
as found whatever the peer reports in it. No peer masks text, so a file of real code with any report counts as left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sordino_client.laboratory.secrets_benchmark.planted import Planted
from sordino_client.laboratory.secrets_benchmark.realcode import RealFile
from sordino_client.laboratory.secrets_benchmark.recall import by, recall

LIMIT_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherScanner:
    """One scanner.

    `arguments` contain FOLDER and REPORT. `paths` gives the files that a report names. `lines` is the most lines of
    real code, for a peer that needs seconds per thousand lines.
    """

    command: str
    arguments: tuple[str, ...]
    paths: Callable[[Any], list[str]]
    lines: int | None = None


PEERS = (
    OtherScanner(
        command="gitleaks",
        arguments=("dir", "FOLDER", "--no-banner", "--exit-code", "0", "-f", "json", "-r", "REPORT"),
        paths=lambda report: [row["File"] for row in report],
    ),
    OtherScanner(
        command="betterleaks",
        arguments=("FOLDER", "--no-banner", "--exit-code", "0", "-o", "REPORT"),
        paths=lambda report: [row["location"]["path"] for row in report["findings"]],
    ),
    OtherScanner(
        command="kingfisher",
        arguments=(
            "scan", "FOLDER", "--no-validate", "--no-update-check", "--confidence", "low", "--format", "json", "-o", "REPORT",
        ),
        paths=lambda report: [row["finding"]["path"] for row in report["findings"]],
    ),
    OtherScanner(
        command="credsweeper",
        arguments=("--path", "FOLDER", "--save-json", "REPORT", "--jobs", "1"),
        paths=lambda report: [line["path"] for row in report for line in row["line_data_list"]],
        lines=100_000,
    ),
    OtherScanner(
        command="detect-secrets",
        arguments=("-C", "FOLDER", "scan", "--all-files", "."),
        paths=lambda report: list(report["results"]),
        lines=20_000,
    ),
)  # fmt: skip


def compare(
    planted: Sequence[Planted], folder: Path, real: Sequence[RealFile], *, caught: frozenset[str]
) -> dict[str, dict[str, Any]]:
    """The figures of each peer, or why it was not run.

    They are its recall, its worst kind, the number of planted files that it found and `caught` (ours) did not, the real
    files that it would leave out, and lines per second.
    """
    return {peer.command: _measured(peer, planted, folder, real, caught) for peer in PEERS}


def _measured(
    peer: OtherScanner,
    planted: Sequence[Planted],
    folder: Path,
    real: Sequence[RealFile],
    caught: frozenset[str],
) -> dict[str, Any]:
    program = shutil.which(peer.command)
    if program is None:
        return {"not_run": "not installed"}
    try:
        found, _ = _run(peer, program, folder)
        with tempfile.TemporaryDirectory() as scratch:
            files, lines = _copy(real, Path(scratch), peer.lines)
            flagged, seconds = _run(peer, program, Path(scratch))
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
        return {"not_run": type(error).__name__}
    return {
        "recall": recall(planted, found),
        "recall_worst_kind": min(by(planted, found, "kind").values()),
        "found_what_ours_missed": len(found - caught),
        "files_wrongly_left_out_per_1000": 1000 * len(flagged) / files,
        "lines_per_second": lines / seconds,
        "real_lines": lines,
    }


def _run(peer: OtherScanner, program: str, folder: Path) -> tuple[frozenset[str], float]:
    """The files under `folder` that the peer reports, and its processor time in seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        places = {"FOLDER": str(folder), "REPORT": str(report)}
        before = os.times()
        done = subprocess.run(
            [program, *(places.get(part, part) for part in peer.arguments)],
            capture_output=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
        after = os.times()
        content = report.read_bytes() if report.exists() else done.stdout
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return frozenset(path.removeprefix(f"{folder}/") for path in peer.paths(json.loads(content))), seconds


def _copy(real: Sequence[RealFile], folder: Path, limit: int | None) -> tuple[int, int]:
    """Copies the files, numbered, to `folder`; returns the numbers of files and lines."""
    files = lines = 0
    for file in real:
        if limit is not None and lines >= limit:
            break
        place = folder / str(files) / file.path.name
        place.parent.mkdir()
        place.write_text(file.text)
        files, lines = files + 1, lines + file.text.count("\n")
    return files, lines
