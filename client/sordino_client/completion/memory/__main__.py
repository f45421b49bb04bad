"""`python -m sordino_client.completion.memory --state DIR --repo DIR...`: builds the memory and ends.

A process of its own at the lowest priority: reading and sorting a repository must not cost the endpoint a
millisecond, nor its memory. It prints one line of figures and no text of any file. It names on standard error the parts
that it could not read, and ends with 4 if there were any.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from sordino_client.completion import bundle, unread
from sordino_client.completion.bases import served
from sordino_client.completion.ending import tell_and_end
from sordino_client.completion.memory.store import Store
from sordino_client.completion.unread import Gap
from sordino_client.completion.vocabulary import EngineTokenizer
from sordino_client.corpus import CorpusPolicy, read_repositories
from sordino_platform.machine.processes import give_way
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import DataError, SordinoError

LOWEST_PRIORITY = 19
# The exit code if the memory was built and a part is missing.
INCOMPLETE = DataError.exit_code


def build(store: Store, repositories: list[Path], tokenizer: EngineTokenizer) -> bool:
    """Makes the memory hold what the repositories hold now; returns whether it changed. Raises SordinoError.

    If a repository cannot be read, the others are used; what is missing is noted beside the memory.
    """
    documents: dict[str, str] = {}
    gaps: list[Gap] = []
    for root in repositories:
        try:
            corpus = read_repositories([root], policy=CorpusPolicy())
        except DataError as error:
            gaps.append(Gap(repository=str(root), whole=True, reason=error.message))
            continue
        except Exception as error:  # noqa: BLE001 - whatever one repository holds, it costs that one only
            gaps.append(
                Gap(repository=str(root), whole=True, reason=f"reading failed ({type(error).__name__})")
            )
            continue
        gaps += unread.partial(root, corpus.excluded)
        for file in corpus.files:
            documents[f"{root}\0{file.path}"] = file.text
    changed = store.refresh(documents, tokenizer)
    unread.write(store.folder, gaps)
    return changed


def _tokenizer(released: Path | None) -> EngineTokenizer:
    """The tokenizer of the served model. Raises SordinoError."""
    if released is None:
        return Tokenizer.shipped()
    if served.of_base(released):
        return served.tokenizer(released)
    return Tokenizer.load(released / "tokenizer.json")


def main() -> int:
    """Builds; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sordino_client.completion.memory", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the endpoint's state folder")
    parser.add_argument(
        "--repo", type=Path, action="append", default=[], help="a repository; may be repeated"
    )
    arguments = parser.parse_args()
    give_way(priority=LOWEST_PRIORITY)
    started = time.perf_counter()
    store = Store(arguments.state / "memory")
    try:
        released = bundle.current(arguments.state / "serving")
        tokenizer = _tokenizer(released)
        if arguments.repo:
            changed = build(store, [path.absolute() for path in arguments.repo], tokenizer)
        else:
            store.purge()
            changed = True
    except SordinoError as error:
        return tell_and_end(error)
    figures = asdict(store.status()) | {
        "changed": changed,
        "seconds": round(time.perf_counter() - started, 3),
    }
    print(json.dumps(figures))  # noqa: T201
    missing = unread.read(store.folder)
    for gap in missing:
        print(f"warning: {gap}", file=sys.stderr)  # noqa: T201
    return INCOMPLETE if missing else 0


if __name__ == "__main__":
    sys.exit(main())
