"""Makes a machine that follows the coordinator, in one step; the old one is told if it answers.

Three cases, from the best to the worst. The old coordinator answers: it notes the new tenure, stops, and the last of
its state is copied. It does not, and the operator vouches that it is gone for good (its disk wiped, its power cut). Or
nobody knows: then the first round here waits until so many members have answered that the old one can hold none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from sordino_coordinator.control.audit import Action, AuditLog, verify_audit
from sordino_coordinator.folder_lock import take_lock
from sordino_coordinator.rounds import RoundStore
from sordino_coordinator.standby.following import Follower, read_followed
from sordino_coordinator.tenancy import Tenancy
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore
from sordino_platform.tenure import SignedTenure, generation_of
from sordino_privacy.errors import ConfigurationError, LinkError, StorageError

GOING_SECONDS: Final = 45.0
LOOK_SECONDS: Final = 0.5


class OldMachine(StrEnum):
    """What is known of the machine that was the coordinator."""

    HANDED_OVER = "handed_over"
    VOUCHED_GONE = "vouched_gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What was taken over. `copied_at`: when the newest copy was made (Unix time; None: never, the folder is a
    restored backup). `members_needed`: how many must answer before the first round; 0: as many as before any other."""

    generation: int
    old: OldMachine
    release: int
    rounds: int
    copied_at: float | None
    members_needed: int


def take_over(
    folder: Path, *, of: str | None, old_is_gone: bool, say: Callable[[str], None] = lambda _: None
) -> TakenOver:
    """Makes the folder's machine the coordinator; `of` is where the old one's API was (HOST:PORT). `up` may then be
    started. Raises ConfigurationError, StorageError, LinkError when the old one answers and does not stop."""
    os.umask(0o077)
    lock = take_lock(folder)
    try:
        identity = _identity(folder)
        tenancy = Tenancy(folder=folder, charters=identity.charters)
        tenure = SignedTenure.begin(
            federation=identity.charter.federation,
            after=generation_of(tenancy.own()),
            key=identity.signing_key,
        )
        old = OldMachine.VOUCHED_GONE if old_is_gone else OldMachine.UNKNOWN
        follower = None if of is None else Follower(folder, of)
        answers = follower is not None and reached(follower, say)
        verified(folder, identity)  # before the old one is stopped
        if follower is not None and answers:
            hand_over(follower, tenure, say)
            old = OldMachine.HANDED_OVER
        newest = verified(folder, identity)
        store = RoundStore(folder / "state.sqlite")
        rounds = store.next_round() - 1
        store.close()
        tenancy.begin(tenure, settled=old is not OldMachine.UNKNOWN)
        followed = read_followed(folder)
        needed = tenancy.fewest(identity.charter.membership())
        AuditLog(folder, key=identity.signing_key).append(
            Action.TAKEN_OVER,
            f"generation {tenure.tenure.generation}, the old machine: {old.value.replace('_', ' ')}; "
            f"release {newest}",
            by="command",
        )
        return TakenOver(
            generation=tenure.tenure.generation,
            old=old,
            release=newest,
            rounds=rounds,
            copied_at=None if followed is None else followed.at,
            members_needed=needed,
        )
    finally:
        lock.close()


def verified(folder: Path, identity: Identity) -> int:
    """The newest release of a folder in which every release, vector and entry of the audit log is what was signed.
    Raises ConfigurationError, StorageError."""
    chain = ReleaseStore(folder / "releases", identity.charters).verify(weights=True)
    keys = frozenset(signed.charter.coordinator.identity_key for signed in identity.charters.chain())
    verify_audit(folder, keys=keys)
    return len(chain) - 1


def reached(follower: Follower, say: Callable[[str], None]) -> bool:
    """Whether the old coordinator answers; its state is copied then."""
    try:
        follower.once()
    except LinkError as error:
        say(f"the old coordinator is not reached: {error.message}")
        return False
    say("the old coordinator answers; its state is copied")
    return True


def hand_over(follower: Follower, tenure: SignedTenure, say: Callable[[str], None]) -> None:
    """Has the old coordinator stop for good, and copies the last of its state. Raises LinkError when it refuses, or
    still answers after GOING_SECONDS."""
    follower.ask("POST", "/v1/hand-over", json.dumps({"tenure": tenure.to_bytes().hex()}).encode())
    deadline = time.monotonic() + GOING_SECONDS
    while time.monotonic() < deadline:
        try:
            follower.once()  # what it committed while it stopped
        except LinkError:
            say("the old coordinator has stopped")
            return
        time.sleep(LOOK_SECONDS)
    raise LinkError(
        f"the old coordinator was told to stop and still answers after {GOING_SECONDS:.0f} seconds",
        hint="stop it by hand, then take over once more",
    )


def _identity(folder: Path) -> Identity:
    """The coordinator's identity with its keys. Raises ConfigurationError, with what to do."""
    try:
        identity = Identity.load(folder)
        tls = identity.tls()
    except (ConfigurationError, StorageError) as error:
        raise ConfigurationError(
            f"this machine cannot speak for the coordinator: {error.message}",
            hint="put the coordinator's identity.key (or .uri) and tls.pem here, mode 0600: docs/guides/standby.md",
        ) from error
    if identity.card.role != "coordinator":
        raise ConfigurationError(f"{folder} holds the identity of a member")
    if tls.expires_at <= datetime.now(UTC):
        raise ConfigurationError(
            f"the certificate in {folder} has ended",
            hint="copy the newest tls.pem, or have it renewed: `sordino identity request`, `approve`, `install`",
        )
    return identity
