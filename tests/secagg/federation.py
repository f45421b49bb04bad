"""A whole federation in one process: real sessions, seeded entropy, a message loop that tests can bend.

No network, no clock, no file. `Federation.run` drives one attempt through all phases and returns the opened sum;
`drop` says who is gone from which phase on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_platform.bench.world import VolatileJournal
from sordino_privacy.secagg import (
    AggregateSum,
    CoordinatorSession,
    EnrolledMember,
    Floors,
    Group,
    MaskedStatistics,
    MemberSession,
    Membership,
    Quantised,
    Quantiser,
    RoundContext,
)
from sordino_privacy.signing import KeySigner

PHASES = ("advertise", "share", "upload", "survivors", "unmask")


class SeededEntropy:
    """SHA-256 in counter mode: reproducible, and distinct per purpose."""

    def __init__(self, seed: object) -> None:
        self._seed, self._count = repr(seed).encode(), 0

    def __call__(self, size: int) -> bytes:
        out = b""
        while len(out) < size:
            self._count += 1
            out += hashlib.sha256(self._seed + self._count.to_bytes(8, "big")).digest()
        return out[:size]


def signing_key(name: str) -> KeySigner:
    return KeySigner.of(hashlib.sha256(b"identity of " + name.encode()).digest())


def names(count: int) -> list[str]:
    return [f"member-{index:04d}" for index in range(count)]


def membership(
    count: int, *, floors: Floors | None = None, epoch: int = 1, organisations: int | None = None
) -> Membership:
    """`count` members, each its own organisation unless `organisations` says how many there are; where no floors are
    given, a fifth may collude and the smallest cohort is the smallest that this allows."""
    if floors is None:
        floors = Floors(cohort=max(3, count // 5 + 2), organisations=2, honest=2, gamma_permille=200)
    return Membership(
        federation="orchestra",
        epoch=epoch,
        charter_hash=hashlib.sha256(f"charter {epoch}".encode()).digest(),
        members=tuple(
            EnrolledMember(
                name=name,
                organisation=f"organisation {index % (organisations or count)}",
                public_key=signing_key(name).public_key,
            )
            for index, name in enumerate(names(count))
        ),
        floors=floors,
    )


def quantiser(dimension: int = 37, cohort_limit: int = 8) -> Quantiser:
    groups = (
        Group(name="embed", length=dimension // 3, range=0.5),
        Group(name="rest", length=dimension - dimension // 3, range=2.0),
    )
    return Quantiser(groups=groups, cohort_limit=cohort_limit)


def update(name: str, quantiser: Quantiser) -> npt.NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).uniform(-0.5, 0.5, quantiser.dimension).astype(np.float32)


def plaintext_sum(quantised: Sequence[Quantised], quantiser: Quantiser) -> npt.NDArray[np.unsignedinteger]:
    """What the protocol must open: the ring sum, computed without it."""
    total = np.zeros(quantiser.length, quantiser.dtype)
    for one in quantised:
        total += one.vector
    return total


@dataclass
class Federation:
    """One attempt. `member_type` and `coordinator_type` let tests put evil ones in."""

    membership: Membership
    quantiser: Quantiser = field(default_factory=quantiser)
    run: str = "run-1"
    round: int = 0
    attempt: int = 0
    seed: object = 0
    model_hash: bytes = bytes(32)
    journals: dict[str, VolatileJournal] = field(default_factory=dict)
    updates: dict[str, Quantised] = field(default_factory=dict)
    member_types: Mapping[str, type[MemberSession]] = field(default_factory=dict)
    coordinator_type: type[CoordinatorSession] = CoordinatorSession
    threads: int = 1

    def __post_init__(self) -> None:
        self.context = RoundContext.under(
            self.membership,
            run=self.run,
            round=self.round,
            attempt=self.attempt,
            server_nonce=hashlib.sha256(repr((self.seed, self.round, self.attempt)).encode()).digest(),
            model_hash=self.model_hash,
            train_config_hash=hashlib.sha256(b"config").digest(),
            quantiser=self.quantiser,
        )
        self.names = [member.name for member in self.membership.members]
        for name in self.names:
            self.journals.setdefault(name, VolatileJournal())
            if name not in self.updates:
                self.updates[name] = self.quantiser.quantise(
                    update(name, self.quantiser),
                    0.5,
                    MaskedStatistics(loss=2.5, examples=1024),
                    SeededEntropy(("quantise", name)),
                )
        self._sessions = 0
        self.coordinator = self.coordinator_type(self.membership, self.context)
        self.members = {name: self.member(name) for name in self.names}

    def member(self, name: str, context: RoundContext | None = None) -> MemberSession:
        """A fresh session, as after a restart."""
        self._sessions += 1
        return self.member_types.get(name, MemberSession)(
            name,
            signing_key(name),
            self.membership,
            context or self.context,
            self.journals[name],
            SeededEntropy((self.seed, name, self.run, self.round, self.attempt, self._sessions)),
        )

    def restored(self, name: str, snapshot: bytes, seed: object) -> MemberSession:
        """The member's session as another process makes it of a snapshot."""
        return MemberSession.restore(
            snapshot,
            name,
            signing_key(name),
            self.membership,
            self.context,
            self.journals[name],
            SeededEntropy(seed),
        )

    # One method per phase: each returns what the coordinator sends next. `present` are those who still answer.

    def advertise(self, present: Sequence[str]) -> bytes:
        for name in present:
            self.coordinator.accept_advertisement(name, self.members[name].advertise())
        return self.coordinator.close_advertisements()

    def share(self, roster: bytes, present: Sequence[str]) -> Mapping[str, bytes]:
        for name in present:
            self.coordinator.accept_shares(name, self.members[name].share(roster))
        return self.coordinator.close_shares()

    def upload(self, deliveries: Mapping[str, bytes], present: Sequence[str]) -> bytes:
        for name in present:
            frames = self.members[name].upload(deliveries[name], self.updates[name], threads=self.threads)
            self.coordinator.accept_upload(name, frames)
        return self.coordinator.close_uploads()

    def survivors(self, claim: bytes, present: Sequence[str]) -> Mapping[str, bytes]:
        for name in present:
            self.coordinator.accept_survivors(name, self.members[name].survivors(claim))
        return self.coordinator.close_survivors()

    def unmask(self, openings: Mapping[str, bytes], present: Sequence[str]) -> AggregateSum:
        for name in present:
            self.coordinator.accept_reveal(
                name, self.members[name].unmask(openings[name], self.updates[name])
            )
        return self.coordinator.open(threads=self.threads)

    def step(self, phase: str, message: Any, present: Sequence[str]) -> Any:
        """One phase: `message` is what the coordinator sent, the result what it sends next."""
        if phase == "advertise":
            return self.advertise(present)
        return getattr(self, phase)(message, present)

    def until(self, phase: str, drop: Mapping[str, str] | None = None) -> tuple[Any, list[str]]:
        """Drives the phases before `phase`; returns what the coordinator sends into it, and who is still present.

        `drop` maps a member to the phase in which it is no longer heard.
        """
        drop, present, message = drop or {}, list(self.names), None
        for now in PHASES:
            if now == phase:
                break
            present = [name for name in present if drop.get(name) != now]
            message = self.step(now, message, present)
        return message, [name for name in present if drop.get(name) != phase]

    def finish(self, phase: str, message: Any, drop: Mapping[str, str] | None = None) -> AggregateSum:
        """Drives `phase` and all after it."""
        drop, gone = drop or {}, PHASES[: PHASES.index(phase)]
        present = [name for name in self.names if drop.get(name) not in gone]
        for now in PHASES[PHASES.index(phase) :]:
            present = [name for name in present if drop.get(name) != now]
            message = self.step(now, message, present)
        assert isinstance(message, AggregateSum)
        return message

    def complete(self, drop: Mapping[str, str] | None = None) -> AggregateSum:
        """All phases."""
        return self.finish("advertise", None, drop)

    def expected(self, included: Sequence[str]) -> npt.NDArray[np.unsignedinteger]:
        return plaintext_sum([self.updates[name] for name in included], self.quantiser)
