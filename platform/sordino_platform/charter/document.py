"""What a federation has agreed on: `Charter`, format `sordino-charter/2`. Charters of version 1 can still be read.

The charter is the federation's constitution. It is signed by the offline root key, pinned by every member and
enforced by the member's software *against the coordinator*: a value from the coordinator can only make a check
stricter. Everything a charter holds is public, and bounded in size.

Fractions that the protocol rounds are integers in thousandths (permille), so that every party rounds alike. Terms of
privacy are floats, compared and never rounded.

A `Draft` is a charter in the making on the root's machine: the same fields, members still to come. Only a complete
`Charter` can be signed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sordino_platform.canonical import Digest, Document, Moment, Name, document_digest, encode
from sordino_platform.charter.model_terms import HuggingFaceTerms, ModelTerms
from sordino_platform.charter.parties import (
    FIRST_EPOCH,
    CharterCoordinator,
    CharterMember,
    RenewalTerms,
    RetiredKey,
    Role,
    TlsAuthority,
)
from sordino_platform.charter.policies import FloorTerms, PrivacyPolicy, SharedMemoryPolicy, TrainingPolicy
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import membership as secagg
from sordino_privacy.secagg.encoding import MAX_MEMBERS, SUITE
from sordino_privacy.secagg.graph import COMPLETE_LIMIT, quorum

LABEL = (
    "sordino-charter/1"  # of hashes and signatures in all versions; the version itself is in the signed bytes
)
FIRST_VERSION = "sordino-charter/1"
VERSION = "sordino-charter/2"
MAX_CHARTER_BYTES = 8 << 20
NO_PREVIOUS = bytes(32)


@contextmanager
def _as_problem() -> Iterator[None]:
    """Turns the protocol's error for impossible floors into one that pydantic takes; pydantic adds the field."""
    try:
        yield
    except ConfigurationError as error:
        raise ValueError(error.message) from None


class CharterTerms(Document):
    """The fields that a draft and a charter share."""

    # Version 1 had no training policy: it is read with the default one, and its bytes and hash stay what they were.
    version: Literal["sordino-charter/1", "sordino-charter/2"] = "sordino-charter/2"
    federation: Name
    epoch: int = Field(ge=FIRST_EPOCH, lt=1 << 32)
    previous: Digest = NO_PREVIOUS
    issued_at: Moment
    expires_at: Moment
    members: tuple[CharterMember, ...] = Field(default=(), max_length=MAX_MEMBERS)
    retired: tuple[RetiredKey, ...] = Field(default=(), max_length=4 * MAX_MEMBERS)
    floors: FloorTerms = FloorTerms()
    privacy: PrivacyPolicy = PrivacyPolicy()
    training: TrainingPolicy | None = None
    shared_memory: SharedMemoryPolicy | None = None
    model: ModelTerms | HuggingFaceTerms
    # One suite and one quantiser, without a choice: no round is held under any other (`Charter.membership`). A charter
    # of the earlier suite can still be read, because the chain of epochs contains it. The quantiser's ranges, ring and
    # levels follow from the model, the training plan and the number of members.
    suite: Literal["sordino-secagg/1", "sordino-secagg/2"] = "sordino-secagg/2"
    quantiser: Literal["sordino-quantiser/1"] = "sordino-quantiser/1"
    tls_authority: TlsAuthority
    renewals: RenewalTerms | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        # A charter without these terms has the bytes, and so the hash, that it had before the terms existed.
        data: dict[str, object] = plain(self)
        later = ("renewals", "training", "shared_memory")
        return {name: value for name, value in data.items() if name not in later or value is not None}

    def training_policy(self) -> TrainingPolicy:
        """The policy in force: a charter of version 1 names none, and the default holds."""
        return self.training or TrainingPolicy()

    @model_validator(mode="after")
    def _coherent(self) -> CharterTerms:
        if (self.version == FIRST_VERSION) != (self.training is None):
            raise ValueError(
                "a training policy stands in every charter from version 2 on, and in none of version 1"
            )
        if (
            self.renewals is not None
            and self.renewals.authority.x509().subject == self.tls_authority.x509().subject
        ):
            raise ValueError("the renewal authority must have another name than the TLS authority")
        names = [member.name for member in self.members]
        if names != sorted(set(names)):
            raise ValueError("members must be sorted by name, and each name may occur once")
        keys = [member.identity_key for member in self.members]
        gone = {key.identity_key for key in self.retired}
        if len(set(keys)) != len(keys):
            raise ValueError("two members have one identity key")
        if gone & set(keys):
            raise ValueError("a member has a key that was retired")
        if (self.epoch == FIRST_EPOCH) != (self.previous == NO_PREVIOUS):
            raise ValueError("the first epoch has no previous charter, and every later one has")
        if self.expires_at <= self.issued_at:
            raise ValueError("a charter must expire after it was issued")
        spellings: dict[str, str] = {}
        for member in self.members:
            if (
                spellings.setdefault(member.organisation.casefold(), member.organisation)
                != member.organisation
            ):
                raise ValueError(f"the organisation {member.organisation!r} is spelt in two ways")
        self._require_shareable()
        if self.suite == SUITE:
            # Checked from the first member on: more members only mean more colluders, so a draft without room never
            # gets room.
            with _as_problem():
                self.floors.as_secagg().require_room(len(self.members))
        return self

    def noise_shares(self) -> int:
        """How many honest members' noise is enough for a sum: 1 if each adds the whole noise, else the honest floor."""
        return self.floors.honest if self.privacy.noise == "distributed" else 1

    def _require_shareable(self) -> None:
        """Whether the floors suit noise in shares. Two sums of the same round would contain the same shares, so only
        one of them may ever be opened."""
        if self.privacy.noise != "distributed":
            return
        if self.version == FIRST_VERSION or self.suite != SUITE:
            raise ValueError(
                "noise = distributed is a term of charters from version 2 on, and of their suite"
            )
        count = len(self.members)
        if count > COMPLETE_LIMIT:
            raise ValueError(f"noise = distributed is for at most {COMPLETE_LIMIT} members")
        if (needed := shareable_honest(self.floors, count)) > self.floors.honest:
            raise ValueError(
                f"noise = distributed needs an honest floor above half of the members that cannot collude, {needed} of "
                f"{count} members: --honest {needed} --cohort {self.floors.as_secagg().corrupt(count) + needed}"
            )


def shareable_honest(floors: FloorTerms, members: int) -> int:
    """The smallest honest floor with which no two sums of one round can be opened: each sum needs that many honest
    signers, and each of them signs once."""
    return max(secagg.MIN_HONEST, (members - floors.as_secagg().corrupt(members)) // 2 + 1)


class Draft(CharterTerms):
    """An unfinished charter: never signed, never sent."""

    coordinator: CharterCoordinator | None = None


class Charter(CharterTerms):
    """One epoch of a federation, complete. Obtain one from `SignedCharter`, which verified it."""

    coordinator: CharterCoordinator

    @model_validator(mode="after")
    def _complete(self) -> Charter:
        if self.suite == SUITE:
            with _as_problem():
                self.floors.as_secagg().require_possible(Counter(m.organisation for m in self.members))
        coordinator = self.coordinator
        if coordinator.name in {member.name for member in self.members}:
            raise ValueError("the coordinator has the name of a member")
        taken = {m.identity_key for m in self.members} | {key.identity_key for key in self.retired}
        if coordinator.identity_key in taken:
            raise ValueError("the coordinator has the key of a member, or a retired one")
        return self

    def hash(self) -> bytes:
        """The charter hash, 32 bytes: members pin it, the protocol's context contains it, the next epoch names it."""
        return document_digest(LABEL, encode(self))

    def member(self, name: str) -> CharterMember:
        """The member of that name. Raises ConfigurationError when there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise ConfigurationError(
            f"{name!r} is not a member of {self.federation}, epoch {self.epoch}",
            hint="`sordino charter show` lists the members",
        )

    def identity_key(self, role: Role, name: str) -> bytes | None:
        """The identity key of a party, or None when this epoch has no such party."""
        if role == "coordinator":
            return self.coordinator.identity_key if name == self.coordinator.name else None
        return next((member.identity_key for member in self.members if member.name == name), None)

    def issuers(self, role: Role) -> tuple[TlsAuthority, ...]:
        """The authorities that may have issued the certificate of a party of this role."""
        if role == "coordinator" or self.renewals is None:
            return (self.tls_authority,)
        return self.tls_authority, self.renewals.authority

    def membership(self) -> secagg.Membership:
        """This epoch as the secure-aggregation protocol takes it. Raises ConfigurationError for a charter of the
        earlier suite: there the thresholds followed the roster, which the coordinator chooses."""
        if self.suite != SUITE:
            raise ConfigurationError(
                f"the charter of {self.federation}, epoch {self.epoch}, is for {self.suite}; "
                f"this version of sordino speaks {SUITE} only",
                hint="the holder of the root key signs the next epoch with this version: `sordino charter new`, "
                "then `sordino charter sign`",
            )
        return secagg.Membership(
            federation=self.federation,
            epoch=self.epoch,
            charter_hash=self.hash(),
            members=tuple(
                secagg.EnrolledMember(name=m.name, organisation=m.organisation, public_key=m.identity_key)
                for m in self.members
            ),
            retired=frozenset(key.identity_key for key in self.retired),
            floors=self.floors.as_secagg(),
            checks_lengths=self.privacy.update_check == "norm",
            shares=self.noise_shares(),
        )

    def smallest_sum(self) -> int:
        """The smallest number of members in a sum that a round of this epoch may open. In an epoch of the earlier
        suite, a release was checked against the honest floor."""
        if self.suite != SUITE:
            return self.floors.honest
        floors = self.floors
        corrupt = floors.as_secagg().corrupt(len(self.members))
        return quorum(floors.cohort, corrupt=corrupt, honest=floors.honest)

    def require_current(self, now: datetime | None = None) -> None:
        """Raises ConfigurationError when the charter has expired.

        If a charter never expired, a coordinator could hide a newer one, and a retirement in it, for ever.
        """
        if (now or datetime.now(UTC)) >= self.expires_at:
            raise ConfigurationError(
                f"the charter of {self.federation}, epoch {self.epoch}, expired on {self.expires_at:%Y-%m-%d}",
                hint="the holder of the root key signs a new epoch: `sordino charter new`, then `sordino charter sign`",
            )
