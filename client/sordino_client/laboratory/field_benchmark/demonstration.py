"""The field in `sordino demo`: five services, a sixth that joins later, and the gain that joining brings it.

    PROGRAM=sordino_client.laboratory.field_benchmark.demonstration
    python -m $PROGRAM repositories --folder DIR
    python -m $PROGRAM newcomer --coordinator DIR --first DIR --heldout DIR ...

The demo's own process holds no client code, so it runs these as commands; each prints one JSON document.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_client.corpus import read_repositories, split_heldout
from sordino_client.laboratory.federation_benchmark.measuring import OVERLAP
from sordino_client.laboratory.field_benchmark.paired import Files, saved
from sordino_client.laboratory.pretrain.commands import user_cache
from sordino_client.laboratory.pretrain.corpus import build_corpus, read_corpus
from sordino_client.laboratory.pretrain.fetch import fetch_pinned
from sordino_client.laboratory.pretrain.field import FIELD
from sordino_client.laboratory.written import write_texts
from sordino_platform import base
from sordino_platform.architecture import Parameters, merged, unflatten
from sordino_platform.durable import make_folder
from sordino_platform.evaluation import Measurement, Plan, RepositoryMemory
from sordino_platform.evaluation.lines import MeasuredPosition
from sordino_platform.founding_model import founding_parameters
from sordino_platform.identity import Identity
from sordino_platform.model import build_decoder as build_model
from sordino_platform.release import ReleaseStore
from sordino_privacy.errors import SordinoError

MEMBERS = ("barbican", "cloudkitty", "openstack-cyborg", "senlin", "zun")
NEWCOMER = "masakari"
# Public code of the same field that no member holds: the coordinator measures releases on it.
MEASURING = ("aodh", "blazar")
FIRST_FILES, HELDOUT_SHARE = 8, 0.3
CURSORS = 10
PLAN = Plan(
    tokens=2400, tokens_per_file=400, lines=CURSORS, prompt_tokens=192, line_tokens=32, overlap=OVERLAP
)


def repositories(folder: Path) -> dict[str, Any]:
    """Fetches the demo's wheels by name and hash and writes their sources as folders. Raises DataError offline."""
    wanted = (*MEMBERS, NEWCOMER, *MEASURING)
    pins = {one.name: one for one in FIELD}
    projects = fetch_pinned(user_cache(), [pins[name] for name in wanted])
    make_folder(folder)
    build_corpus(folder, "field", projects)
    for one in read_corpus(folder, "field"):
        write_texts(folder, {f"{one.project}/{one.path}": one.text})
    return {
        "members": [[str(folder / name)] for name in MEMBERS],
        "measuring": [str(folder / name) for name in MEASURING],
        "newcomer": split_newcomer([folder / NEWCOMER], folder / "newcomer") | {"name": NEWCOMER},
    }


def split_newcomer(sources: Sequence[Path], folder: Path) -> dict[str, str]:
    """Writes a newcomer's first eight files and, separately, its held-out files. Raises DataError."""
    training, heldout = split_heldout(read_repositories(sources), HELDOUT_SHARE)
    order = sorted(training.files, key=lambda file: hashlib.sha256(file.path.encode()).digest())
    for name, files in (("first", order[:FIRST_FILES]), ("heldout", heldout.files)):
        write_texts(folder / name, {file.name: file.text for file in files})
    return {"first": str(folder / "first"), "heldout": str(folder / "heldout")}


def newcomer(
    coordinator: Path, first: Path, heldout: Path, members: Sequence[Path], scratch: Path
) -> dict[str, Any]:
    """The gain from the coordinator's newest release for a party that has only its first files.

    It measures the same tokens and cursors three times: the public base with the first files in the memory; the release
    with the same memory and the federation's shared memory, if there is one; and the base with all members' text in the
    memory, which shows what sharing everything would bring.
    """
    config, tokenizer, shipped = base.load()
    identity = Identity.load(coordinator)
    terms = identity.charter.model
    releases = ReleaseStore(coordinator / "releases", identity.charters)
    vector, counted = releases.vector(), releases.shared_memory()
    released = merged(unflatten(terms.config(), founding_parameters(terms), vector))
    texts = [file.text for file in read_repositories([heldout]).files]
    measurement = Measurement(tokenizer, {NEWCOMER: texts}, PLAN)
    own = {file.name: file.text for file in read_repositories([first]).files}
    others = {file.name: file.text for file in read_repositories(members).files}
    memory = MeasuredMemory(scratch / "own", own, tokenizer)
    joined = memory if counted is None else memory.with_shared(counted)
    together = memory.beside(MeasuredMemory(scratch / "others", others, tokenizer))

    def files(parameters: Parameters, remembered: RepositoryMemory) -> Files:
        model = build_model(config, parameters).eval()
        columns = measurement.columns_of_model(model, memories={NEWCOMER: remembered})
        return Files.of(columns[NEWCOMER])

    def completed(parameters: Parameters, remembered: RepositoryMemory) -> list[tuple[MeasuredPosition, str]]:
        found: list[tuple[MeasuredPosition, str]] = []
        measurement.of_lines(
            build_model(config, parameters).eval(),
            memories={NEWCOMER: remembered},
            on_line=lambda cursor, guess: found.append((cursor, guess)),
        )
        return found

    before, after, everything = files(shipped, memory), files(released, joined), files(shipped, together)
    lines = [
        {
            "typed": _typed(tokenizer.decode(list(cursor.before)) + cursor.heal.decode(errors="replace")),
            "truth": cursor.truth,
            "before": guess,
            "after": later,
        }
        for (cursor, guess), (_, later) in zip(
            completed(shipped, memory), completed(released, joined), strict=True
        )
    ]
    return {
        "files": len(own),
        "shared_phrases": 0 if counted is None else counted.phrases,
        "bits_before": before.bits_per_byte,
        "bits_after": after.bits_per_byte,
        "bits_with_the_text_of_all": everything.bits_per_byte,
        "saved": saved([(before, after)]).as_json(),
        "saved_by_the_text_of_all": saved([(before, everything)]).as_json(),
        "next_token_before": before.accuracy,
        "next_token_after": after.accuracy,
        "lines": lines,
    }


def _typed(text: str) -> str:
    """The text of the line before the cursor."""
    return text.rsplit("\n", 1)[-1]


def main() -> None:
    """Runs one of the two commands and prints JSON, or one line that says what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    written = commands.add_parser("repositories")
    written.add_argument("--folder", type=Path, required=True)
    split = commands.add_parser("split")
    split.add_argument("--folder", type=Path, required=True)
    split.add_argument("--repo", type=Path, action="append", required=True)
    measured = commands.add_parser("newcomer")
    for name in ("coordinator", "first", "heldout", "scratch"):
        measured.add_argument(f"--{name}", type=Path, required=True)
    measured.add_argument("--member", type=Path, action="append", required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    try:
        match asked.command:
            case "repositories":
                found: dict[str, Any] = repositories(asked.folder)
            case "split":
                found = split_newcomer(asked.repo, asked.folder)
            case _:
                found = newcomer(asked.coordinator, asked.first, asked.heldout, asked.member, asked.scratch)
    except SordinoError as error:
        sys.exit(str(error))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
