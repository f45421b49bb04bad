"""`python -m sordino_client.completion.taking --state DIR --repo DIR... --heldout-share S`: chooses, and ends.

A process of its own at the lowest priority, since it loads the served models a second time. It prints one line of
figures and no text of any file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from sordino_client.completion import bundle
from sordino_client.completion.ending import tell_and_end
from sordino_client.completion.taking import measuring, record
from sordino_client.completion.taking.choice import EVERYTHING, Taking, best_of
from sordino_client.completion.taking.made_of import taken_from
from sordino_client.completion.taking.record import OnHeldOut, TakenChoice
from sordino_client.corpus import read_repositories, split_heldout
from sordino_platform.machine.processes import give_way
from sordino_privacy.errors import ConfigurationError, DataError, SordinoError, StorageError

LOWEST_PRIORITY = 19
FEWEST_TOKENS = 500


def choose(state: Path, repositories: list[Path], *, heldout_share: float) -> TakenChoice:
    """The choice of the member whose completion folder is `state`, by the files that it holds out of these
    repositories.

    Raises SordinoError if the served model cannot be read. Too little code is no error: it gives a choice with its
    reason.
    """
    started = time.perf_counter()
    folder, of = bundle.current(state / "serving"), taken_from(state)
    if folder is None or not of.release:
        raise StorageError("there is no release to choose from yet", hint="the first one comes with a round")
    number = int(folder.name.split("-")[1])

    def all_of_it(why: str) -> TakenChoice:
        return TakenChoice(taking=EVERYTHING, of=of, release=number, why=why, at=_now())

    if not heldout_share:
        return all_of_it("nothing is held out of training (heldout_share in member.toml is 0)")
    try:
        heldout = split_heldout(read_repositories(repositories), heldout_share)[1].files
    except DataError as error:
        return all_of_it(error.message)
    texts = [file.text for file in heldout]
    try:
        ways = measuring.Ways.of(state, folder, own=of.has_own)
        segments = measuring.opened(state, ways.vocabulary.tokenizer, without=texts)
        choosing, telling = (ways.files(half, segments) for half in measuring.halves(texts))
        tokens = sum(len(one.ids) for one in choosing)
        if tokens < FEWEST_TOKENS:
            return all_of_it(
                f"{tokens} tokens of code are held out, and {FEWEST_TOKENS} are needed to choose"
            )
        tried = ways.all()
        bits = ways.bits(tried, choosing)
        taking = best_of(bits)
        few = list(dict.fromkeys((tried[0], EVERYTHING, taking)))
        told = ways.bits(few, telling) if telling else None
    except ConfigurationError as error:  # a base that is too large to be held twice
        return all_of_it(error.message)

    def judged(files: list[measuring.MeasuredFile], found: dict[Taking, float]) -> OnHeldOut:
        return OnHeldOut(
            files=len(files),
            tokens=sum(len(one.ids) for one in files),
            alone=found[tried[0]],
            everything=found[EVERYTHING],
            taken=found[taking],
        )

    return TakenChoice(
        taking=taking,
        of=of,
        release=number,
        choosing=judged(choosing, bits),
        telling=None if told is None else judged(telling, told),
        tried=tuple(bits.items()),
        at=_now(),
        seconds=round(time.perf_counter() - started, 1),
    )


def main() -> int:
    """Chooses; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sordino_client.completion.taking", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the endpoint's state folder")
    parser.add_argument(
        "--repo", type=Path, action="append", default=[], help="a repository; may be repeated"
    )
    parser.add_argument("--heldout-share", type=float, required=True, help="what training holds out of them")
    arguments = parser.parse_args()
    give_way(priority=LOWEST_PRIORITY)
    try:
        choice = choose(arguments.state, arguments.repo, heldout_share=arguments.heldout_share)
        record.write(arguments.state, choice)
    except SordinoError as error:
        return tell_and_end(error)
    print(json.dumps(choice.as_json()))  # noqa: T201
    return 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
