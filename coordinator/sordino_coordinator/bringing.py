"""Before a round: sends the history in parts to members that lack more of it than a proposal can hold. Then they take
part.

A member is left out of this round if it does not answer, refuses, takes only some of a part, or asks again for a part
that it has taken. Each time it waits longer for the next try (`patience`). Members that catch up hold the others up for
a minute at most. A part that a member has taken by then is not sent again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache

from flwr.app import RecordDict
from flwr.serverapp import Grid

from sordino_coordinator.boundary import LostMember, MemberReply
from sordino_coordinator.exchange import GivenUpError, exchange
from sordino_coordinator.federation import Federation
from sordino_coordinator.standing import MemberStanding
from sordino_platform.catching_up import CATCH_UP, HistoryPart
from sordino_platform.flower.codec import ENVELOPE_BYTES
from sordino_platform.history import BATCH_BYTES, batch
from sordino_privacy.errors import LinkError

BRINGING_SECONDS = 60.0
PART_SECONDS = 20.0
"""How long a member may be silent over one part before it gets no more of them in this round. 1 MiB at 0.5 Mbit/s."""
AT_A_TIME = 16
"""How many members are sent parts at the same time. Each may need a different part, of some megabytes."""


def bring_forward(
    federation: Federation, grid: Grid, nodes: Mapping[str, int], held: Mapping[str, MemberStanding]
) -> dict[str, MemberStanding]:
    """Brings the members of `held` up to date. Returns what each holds afterwards, without the members that still lack
    more than a proposal can hold.

    `nodes` are their node ids. Raises StorageError.
    """
    lack = [
        name for name, standing in held.items() if standing.manifests <= federation.releases.head().number
    ]
    fits = federation.releases.first_within(BATCH_BYTES) if lack else 0
    late = sorted(name for name in lack if held[name].manifests < fits)
    if not late:
        return dict(held)
    patience, now = federation.catch_up_patience, time.monotonic()
    bringing = _Bringing(federation, grid, nodes, held, fits)
    try:
        bringing.run([name for name in late if patience.may_try(name, now=now)][:AT_A_TIME])
    except GivenUpError:
        return {}
    return {name: bringing.standing.get(name, standing) for name, standing in held.items()
            if name not in late or bringing.arrived(name)}  # fmt: skip


class _Bringing:
    """One stretch of bringing parts: the release at which each member stands, by its last answer."""

    def __init__(
        self,
        federation: Federation,
        grid: Grid,
        nodes: Mapping[str, int],
        held: Mapping[str, MemberStanding],
        fits: int,
    ) -> None:
        self._federation, self._grid, self._nodes, self._fits = federation, grid, nodes, fits
        self._newest = federation.releases.head().number
        self.standing = dict(held)
        self._began: dict[str, int] = {}
        self._wants: dict[str, int] = {}

    def arrived(self, name: str) -> bool:
        """Whether what this member still lacks fits into its proposal."""
        return self._wants.get(name, 0) >= self._fits

    def run(self, names: Collection[str]) -> None:
        """Sends part after part to the members that answer and make progress, until the time is up."""
        ends, left_to_bring = time.monotonic() + BRINGING_SECONDS, names
        while left_to_bring and (left := ends - time.monotonic()) > 0:
            answered = self._one_part(left_to_bring, seconds=min(left, PART_SECONDS))
            left_to_bring = [name for name in answered if not self.arrived(name)]
        for name in names:
            began, ended = self._began.get(name), self._wants.get(name, 0)
            wait = self._federation.catch_up_patience.settle(
                name, began=began, ended=ended, now=time.monotonic()
            )
            if wait:
                self._federation.log.warning(
                    "caught_up_in_vain", member=name, release=ended - 1, seconds=wait
                )

    def _one_part(self, names: Collection[str], *, seconds: float) -> list[str]:
        federation, newest = self._federation, self._newest
        tenure = federation.tenure()

        behind = dict[str, int]()  # the release behind the part that each was sent

        @lru_cache(maxsize=1)  # most members lack the same part, so they share its bytes
        def brought(first: int | None, epoch: int) -> tuple[RecordDict, int]:
            numbers = range(newest + 1 if first is None else first, self._fits)
            part = tuple(batch(map(federation.releases.manifest_bytes, numbers)))
            charters = federation.epochs(after=epoch)
            message = HistoryPart(
                first=first or 0, newest=newest, manifests=part, charters=charters, tenure=tenure
            )
            return message.pack(), len(part)

        def content(member: str) -> RecordDict:
            first = self._wants.get(member)
            message, count = brought(first, self.standing[member].epoch)
            if first is not None:
                behind[member] = first + count
            return message

        def came(answer: MemberReply) -> None:
            wants = answer.fields.integer("next")
            answer.fields.done()
            if not 0 <= wants <= newest + 1 or wants != behind.get(answer.member, wants):
                raise LinkError("a member that catches up wants a release that cannot be the next one")
            self._began.setdefault(answer.member, wants)
            self._wants[answer.member] = wants
            standing = self.standing[answer.member]
            self.standing[answer.member] = replace(standing, manifests=wants)

        answered = []
        for item in exchange(
            self._grid,
            {name: self._nodes[name] for name in names},
            content,
            came,
            message_type=CATCH_UP,
            round=0,
            seconds=seconds,
            reply_bytes=lambda _: ENVELOPE_BYTES,
            given_up=federation.stopping.is_set,
        ):
            if isinstance(item, LostMember):
                federation.log.warning("not_caught_up", member=item.member, error=item.error)
                continue
            answered.append(item.member)
            federation.log.info(
                "catching_up", member=item.member, release=self._wants[item.member] - 1, count=newest
            )
        return answered
