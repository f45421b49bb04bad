"""What the console's page shows: which part of the long lists, in which words, and what its template is given. Pure.

Escaping is Jinja's, for every name that comes from a member or a provider.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from sordino_coordinator.console.curve import curve
from sordino_coordinator.console.health import CERTIFICATE_SOON, Level, span, verdict
from sordino_coordinator.console.state import ConsoleState
from sordino_coordinator.control.view import some
from sordino_coordinator.rounds import RoundRecord
from sordino_platform.flower.phases import Phase
from sordino_platform.offer import STEPS

SHOWN_ROUNDS: Final = 20
SHOWN_MEMBERS: Final = 50
SHOWN_RELEASES: Final = 10
SHOWN_LOSSES: Final = 60
PHASES: Final = {
    Phase.TRAIN: "train",
    Phase.SHARE: "share keys",
    Phase.UPLOAD: "masked input",
    Phase.MUSTER: "muster",
    Phase.SOUND: "sound",
    Phase.SURVIVORS: "survivors",
    Phase.UNMASK: "unmask",
    Phase.RESULT: "result",
}
EXPLAINED: Final = {
    Phase.TRAIN: "members train on their own machines",
    Phase.SHARE: "members share keys that can recover a mask",
    Phase.UPLOAD: "members send their masked updates",
    Phase.MUSTER: "members of a large cohort say that they are there",
    Phase.SOUND: "members of a large cohort say what they sent, before they sign",
    Phase.SURVIVORS: "members sign who is in the sum",
    Phase.UNMASK: "members open the masks of the sum, and no other",
    Phase.RESULT: "members take the new release",
}


def environment() -> Environment:
    """The templates: everything is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=PackageLoader("sordino_coordinator.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"utc": utc, "span": span, "phase": lambda name: PHASES[Phase(name)]}
    made.globals |= {
        "Level": Level,
        "phases": PHASES,
        "explained": EXPLAINED,
        "soon": CERTIFICATE_SOON.total_seconds(),
        "departed": departed,
    }
    return made


def departed(dropped: Mapping[str, str], count: int) -> str:
    """A few of the members that left a round, with their reasons, and how many more there are."""
    return (
        some([f"{member} ({why.replace('_', ' ')})" for member, why in dropped.items()], of=count)
        if count
        else ""
    )


def utc(moment: datetime | float) -> str:
    """A time as the page writes it, in UTC."""
    at = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which part of the long lists is shown: a page of members, from 1, and the rounds before one (None: newest)."""

    members: int = 1
    before: int | None = None

    def address(self) -> str:
        """Where this part is."""
        return f"/?members={self.members}" + ("" if self.before is None else f"&before={self.before}")

    def with_members(self, page: int) -> str:
        """The address of another page of members."""
        return replace(self, members=page).address()

    def with_rounds(self, before: int | None) -> str:
        """The address of another page of rounds."""
        return replace(self, before=before).address()


FIRST: Final = Part()


def part_of(query: Mapping[str, str]) -> Part:
    """The part that an address asks for; what is no number in bounds is taken as not said."""
    said = {
        name: int(text)
        for name in ("members", "before")
        if re.fullmatch(r"[1-9]\d{0,8}", text := query.get(name, ""), re.ASCII)
    }
    return Part(members=said.get("members", 1), before=said.get("before"))


def view(state: ConsoleState, part: Part, rounds: Sequence[RoundRecord]) -> dict[str, object]:
    """What the template needs beside the state itself."""
    losses = [(one.number, one.heldout_loss) for one in state.releases if one.heldout_loss is not None]
    shown = losses[-SHOWN_LOSSES:]
    pages = max(1, math.ceil(len(state.members) / SHOWN_MEMBERS))
    page = min(part.members, pages)
    return {
        "state": state,
        "verdict": verdict(state),
        "losses": shown,
        "broad": curve(shown, width=720, height=240),
        "slim": curve(shown, width=340, height=220),
        "part": replace(part, members=page),
        "pages": pages,
        "members": state.members[SHOWN_MEMBERS * (page - 1) : SHOWN_MEMBERS * page],
        "rounds": rounds,
        "releases": list(reversed(state.releases[-SHOWN_RELEASES:])),
        "counts": [(outcome.value.replace("_", " "), count) for outcome, count in state.outcomes.items()],
        "round": state.latest,
        "steps": STEPS,
    }
