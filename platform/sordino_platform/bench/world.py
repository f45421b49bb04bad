"""Members, contexts and updates to measure with: real sessions with temporary keys, without network or disk."""

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
# Few colluders, so that the same federation can hold a round of five members and one of all hundred. Only the number of
# members then differs.
FLOORS = Floors(gamma_permille=20)


class VolatileJournal:
    """A journal in memory with the same rules: for measurements, vectors and tests, where a member lives as long as its
    process. Nothing in it survives a crash."""

    def __init__(self) -> None:
        self.rows: list[JournalEntry] = []

    def highest_epoch(self, federation: str) -> int:
        """The highest epoch of any entry of the federation; 0 when there is none."""
        return max((row.epoch for row in self.rows if row.federation == federation), default=0)

    def entries(self, federation: str, run: str, round: int) -> Sequence[JournalEntry]:
        """The entries of one round, in order."""
        return [row for row in self.rows if (row.federation, row.run, row.round) == (federation, run, round)]

    def record(self, entry: JournalEntry) -> None:
        """Keeps an entry that may follow the others; the same entry again changes nothing. Raises ReplayError,
        RevealError."""
        existing = self.entries(entry.federation, entry.run, entry.round)
        require_follows(existing, entry)
        if entry not in existing:
            self.rows.append(entry)


class BenchWorld:
    """A federation of `members`, where the first `present` take part, with models of `parameters` coordinates."""

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
    """An update that looks like noise: normally distributed, well within the range."""
    return np.random.default_rng(0).normal(0, DEVIATION, parameters).astype(np.float32)


def key() -> bytes:
    return secrets.token_bytes(32)
