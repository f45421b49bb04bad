"""Who may take part, and the floors that every member enforces: what the charter says, as the protocol needs it.

A `Membership` comes from a verified charter, never from the coordinator. Fractions are integers in thousandths, so
that every party rounds alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg.encoding import HASH_BYTES, KEY_BYTES, MAX_MEMBERS, valid_name
from sordino_privacy.secagg.refusals import FloorError, IdentityError

MIN_COHORT = 3
MIN_HONEST = 2
MAX_GAMMA_PERMILLE = 333


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member: its charter name, its organisation, its raw Ed25519 public key (32 bytes)."""

    name: str
    organisation: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not valid_name(self.name):
            raise ConfigurationError("a member's name must be 1 to 63 of a-z, 0-9 and '-'")
        if not 1 <= len(self.organisation) <= 255:
            raise ConfigurationError(f"the organisation of {self.name} must have 1 to 255 characters")
        if len(self.public_key) != KEY_BYTES:
            raise ConfigurationError(f"the public key of {self.name} must have {KEY_BYTES} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """The floors of the charter.

    `cohort`: fewest members of a round (never below 3). `organisations`: fewest distinct organisations among a
    round's members, and again among its survivors. `organisation_share_permille`: largest share of one organisation
    in a round. `gamma_permille`: share of members that may collude with the coordinator (below 1/3). `honest`: fewest
    honest members in a sum (h_min, never below 2). `dropout_permille`: dropouts that the graph of a round with more
    than 256 members is built for (delta).
    """

    cohort: int = 5
    organisations: int = 3
    organisation_share_permille: int = 500
    gamma_permille: int = 200
    honest: int = 3
    dropout_permille: int = 333

    def __post_init__(self) -> None:
        if not MIN_COHORT <= self.cohort <= MAX_MEMBERS:
            raise ConfigurationError(f"the smallest cohort must lie between {MIN_COHORT} and {MAX_MEMBERS}")
        if not 1 <= self.organisations <= self.cohort:
            raise ConfigurationError("the organisation floor must lie between 1 and the smallest cohort")
        if not 1 <= self.organisation_share_permille <= 1000:
            raise ConfigurationError(
                "the largest share of an organisation must lie between 1 and 1000 thousandths"
            )
        if not 0 <= self.gamma_permille <= MAX_GAMMA_PERMILLE:
            raise ConfigurationError("gamma must lie between 0 and 333 thousandths")
        if not MIN_HONEST <= self.honest <= self.cohort:
            raise ConfigurationError(
                f"the honest floor must lie between {MIN_HONEST} and the smallest cohort"
            )
        if not 1 <= self.dropout_permille <= 500:
            raise ConfigurationError("the tolerated dropouts must lie between 1 and 500 thousandths")


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The members of one charter epoch. `retired` holds public keys that must never be accepted again."""

    federation: str
    epoch: int
    charter_hash: bytes
    members: tuple[Member, ...]
    retired: frozenset[bytes] = frozenset()
    floors: Floors = Floors()
    _by_name: dict[str, Member] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not valid_name(self.federation):
            raise ConfigurationError("the federation's name must be 1 to 63 of a-z, 0-9 and '-'")
        if not 0 <= self.epoch < 1 << 32:
            raise ConfigurationError("the charter's epoch must be a number below 2^32")
        if len(self.charter_hash) != HASH_BYTES:
            raise ConfigurationError(f"the charter's hash must have {HASH_BYTES} bytes")
        if not 1 <= len(self.members) <= MAX_MEMBERS:
            raise ConfigurationError(f"a federation has 1 to {MAX_MEMBERS} members")
        by_name = {member.name: member for member in self.members}
        if len(by_name) != len(self.members):
            raise ConfigurationError("two members of the charter have one name")
        if len({member.public_key for member in self.members}) != len(self.members):
            raise ConfigurationError("two members of the charter have one key")
        object.__setattr__(self, "_by_name", by_name)

    def member(self, name: str) -> Member:
        """The member of that name. Raises IdentityError when it is unknown or its key is retired."""
        member = self._by_name.get(name)
        if member is None:
            raise IdentityError(f"{name!r} is not a member by the charter", culprit=name)
        if member.public_key in self.retired:
            raise IdentityError(f"the key of {name!r} is retired", culprit=name)
        return member

    def require_cohort(self, names: Iterable[str], *, cohort: int, organisations: int) -> None:
        """The floors of a round's members (U1). Raises FloorError."""
        counts = Counter(self.member(name).organisation for name in names)
        total = counts.total()
        if total < cohort:
            raise FloorError(f"a cohort of {total} is below the floor of {cohort}")
        self.require_organisations(counts, organisations=organisations)
        largest = max(counts.values())
        if largest * 1000 > self.floors.organisation_share_permille * total:
            raise FloorError(
                f"one organisation holds {largest} of {total} places, more than the charter allows"
            )

    def require_survivors(self, names: Iterable[str], *, organisations: int) -> None:
        """The organisation floor, on those whose updates would be summed (U3). Raises FloorError."""
        self.require_organisations(
            Counter(self.member(name).organisation for name in names), organisations=organisations
        )

    @staticmethod
    def require_organisations(counts: Counter[str], *, organisations: int) -> None:
        if len(counts) < organisations:
            raise FloorError(f"{len(counts)} organisations are below the floor of {organisations}")
