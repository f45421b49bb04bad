"""The federation of the vectors: four members with fixed keys, one round, and random draws that anybody can repeat."""

from __future__ import annotations

import hashlib

import numpy as np

from sordino_platform.bench.world import VolatileJournal
from sordino_privacy.secagg import (
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

NAMES = ("alpha", "bravo", "charlie", "delta")
SURVIVORS = NAMES[:3]


class Draws:
    """Deterministic entropy that keeps what it gave out."""

    def __init__(self, purpose: str) -> None:
        self.purpose = purpose
        self.given: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        seed = f"sordino-secagg/2 vectors|{self.purpose}|{len(self.given)}".encode()
        self.given.append(hashlib.sha256(seed).digest()[:size])
        return self.given[-1]


def fixed(text: str) -> bytes:
    return hashlib.sha256(b"sordino-secagg/2 vectors|" + text.encode()).digest()


def signer(name: str) -> KeySigner:
    return KeySigner.of(fixed(f"identity {name}"))


def membership() -> Membership:
    return Membership(
        federation="orchestra",
        epoch=3,
        charter_hash=fixed("charter"),
        members=tuple(
            EnrolledMember(name=name, organisation=f"{name} ltd", public_key=signer(name).public_key)
            for name in NAMES
        ),
        floors=Floors(cohort=3, organisations=3, gamma_permille=200, honest=2),
    )


def context() -> RoundContext:
    quantiser = Quantiser(
        groups=(Group(name="embed", length=2, range=0.5), Group(name="rest", length=3, range=2.0)),
        cohort_limit=8,
    )
    return RoundContext.under(
        membership(),
        run="run-1",
        round=7,
        attempt=0,
        server_nonce=fixed("nonce"),
        model_hash=fixed("model"),
        train_config_hash=fixed("config"),
        quantiser=quantiser,
    )


def session(name: str) -> tuple[MemberSession, Draws]:
    draws = Draws(name)
    return MemberSession(name, signer(name), membership(), context(), VolatileJournal(), draws), draws


def update_of(name: str) -> np.ndarray:
    """Each member's update: one vector, longer from member to member; its last number is out of range."""
    return np.array([0.1, -0.5, 2.0, -0.25, 3.0], np.float32) * np.float32(1 + 0.25 * NAMES.index(name))


def quantised_of(name: str, rounding: Draws) -> Quantised:
    statistics = MaskedStatistics(loss=1.5, examples=4096)
    return context().quantiser.quantise(update_of(name), 0.5, statistics, rounding)
