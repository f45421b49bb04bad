"""Members, contexts and updates to measure with: real sessions, keys of the moment, no network and no disk."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np

from sordino_privacy.secagg import (
    CoordinatorSession,
    EnrolledMember,
    Floors,
    Group,
    JournalEntry,
    MaskedStatistics,
    MemberSession,
    Membership,
    Quantised,
    Quantiser,
    RoundContext,
    require_follows,
)
from sordino_privacy.secagg.rounding import FloatVector
from sordino_privacy.signing import KeySigner

RANGE = 0.5
DEVIATION = 0.05
# So few colluders that five of a hundred members may hold a round beside all hundred: what is compared is their number.
FLOORS = Floors(gamma_permille=20)


class VolatileJournal:
    """The rules of a journal, kept in memory: disk time belongs to the ledger, not to the protocol."""

    def __init__(self) -> None:
        self._entries: list[JournalEntry] = []

    def highest_epoch(self, federation: str) -> int:
        return max((entry.epoch for entry in self._entries), default=0)

    def entries(self, federation: str, run: str, round: int) -> Sequence[JournalEntry]:
        return self._entries

    def record(self, entry: JournalEntry) -> None:
        require_follows(self._entries, entry)
        self._entries.append(entry)


class BenchWorld:
    """A federation of `members`, of whom the first `present` take part, and models of `parameters` coordinates."""

    def __init__(self, members: int, parameters: int, *, present: int | None = None) -> None:
        self.names = [f"member-{number:03d}" for number in range(present or members)]
        self.signing_keys = {f"member-{number:03d}": KeySigner.generate() for number in range(members)}
        self.membership = Membership(
            federation="benchmark",
            epoch=1,
            charter_hash=bytes(32),
            members=tuple(
                EnrolledMember(
                    name=name,
                    organisation=f"{name} ltd",
                    public_key=key.public_key,
                )
                for name, key in self.signing_keys.items()
            ),
            floors=FLOORS,
        )
        self.quantiser = quantiser(parameters, members)
        self.context = RoundContext.under(
            self.membership,
            run="benchmark",
            round=0,
            attempt=0,
            server_nonce=secrets.token_bytes(32),
            model_hash=bytes(32),
            train_config_hash=bytes(32),
            quantiser=self.quantiser,
        )

    def coordinator(self) -> CoordinatorSession:
        return CoordinatorSession(self.membership, self.context)

    def member(self, name: str) -> MemberSession:
        return MemberSession(
            name,
            self.signing_keys[name],
            self.membership,
            self.context,
            VolatileJournal(),
            secrets.token_bytes,
        )

    def quantise(self, update: FloatVector) -> Quantised:
        return self.quantiser.quantise(update, 1.0, MaskedStatistics(examples=8), secrets.token_bytes)


def quantiser(parameters: int, members: int) -> Quantiser:
    """One tensor group; the ring follows from the number of members."""
    groups = (Group(name="all", length=parameters, range=RANGE),)
    return Quantiser(groups=groups, cohort_limit=members)


def update(parameters: int) -> FloatVector:
    """An update such as noise makes it: normal, well within the range."""
    return np.random.default_rng(0).normal(0, DEVIATION, parameters).astype(np.float32)


def key() -> bytes:
    return secrets.token_bytes(32)
