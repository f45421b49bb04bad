"""A real federation for the editor: a coordinator and five members; the developer's own is asked for each round."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sordino_platform.charter import PrivacyPolicy, shipped_model
from sordino_platform.demo import plans, world
from sordino_platform.demo.cast import PARTIES, shipped_repositories
from sordino_platform.demo.local import ENVIRONMENT, SORDINO
from sordino_platform.demo.processes import Processes
from sordino_platform.durable import make_folder, write_file

DEVELOPER = "aurora"
# As small as a round can be: what is tested is the way there, not the model's gain.
PLAN: dict[str, object] = plans.PLAN | {
    "steps": 2,
    "window": 64,
    "noise_multiplier": 1.5,
    "expected_units": 32,
}
START_SECONDS = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """The running processes, by name, and where the developer's member is."""

    place: world.DemoWorld
    processes: Processes

    @property
    def member(self) -> Path:
        """The developer's folder."""
        return self.place.foundation.members[DEVELOPER]

    def start(self, name: str) -> None:
        """Starts a member's agent."""
        folder = self.place.foundation.members[name]
        self.processes.start(name, [*SORDINO, "client", "up", "--folder", str(folder)], ENVIRONMENT)

    def answers(self) -> bool:
        """Whether the developer's agent has both doors open."""
        return all((self.member / door / f"{door}.json").exists() for door in ("completion", "control"))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Federation]:
    """Founds and starts everything; ends every process."""
    repositories, heldout = shipped_repositories([name for name, _ in PARTIES])
    place = world.found_locally(
        folder,
        federation="demo",
        parties=PARTIES,
        repositories=repositories,
        model=shipped_model(adapter_rank=plans.ADAPTER_RANK),
        privacy=PrivacyPolicy(largest_epsilon=plans.EPSILON_BUDGET, smallest_noise_multiplier=0.6),
        plan=PLAN,
        rounds=0,
        coordinator_settings={
            "gather_seconds": 1.0,
            "train_seconds": 240.0,
            "exchange_seconds": 60.0,
            "heldout": [str(path) for path in heldout],
            "heldout_tokens": 2_000,
        },
        member_settings={"windows_per_unit": 4},
    )
    coordinator = place.foundation.coordinator
    logs = folder / "logs"
    make_folder(logs)
    with Processes(logs) as processes:
        found = Federation(place=place, processes=processes)
        processes.start(
            "coordinator", [*SORDINO, "coordinator", "up", "--folder", str(coordinator)], ENVIRONMENT
        )
        wait(lambda: bool(world.read_address(place)), processes)
        world.write_member_settings(place, address=world.read_address(place))
        own = found.member / "member.toml"
        write_file(own, (own.read_text() + 'participate = "when_asked"\n').encode(), secret=True)
        for name in place.foundation.members:
            found.start(name)
        wait(found.answers, processes)
        yield found


def wait(ready: Callable[[], bool], processes: Processes) -> None:
    """Waits for the processes, which must live."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        processes.require(["coordinator", *(name for name, _ in PARTIES)])
        assert time.monotonic() < deadline, "the federation did not start"
        time.sleep(0.2)


def events(federation: Federation) -> list[dict[str, object]]:
    """What the coordinator wrote down."""
    return [json.loads(line) for line in federation.place.events.read_text().splitlines()]
