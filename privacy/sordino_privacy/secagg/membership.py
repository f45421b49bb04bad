"""Who may take part, and the floors that every member enforces: the charter's terms in the form the protocol needs.

A `Membership` comes from a verified charter, never from the coordinator. Fractions are integers in thousandths, so that
every party rounds in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg.encoding import HASH_BYTES, KEY_BYTES, MAX_MEMBERS, valid_name
from sordino_privacy.secagg.refusals import FloorError, IdentityError

MIN_COHORT = 3
MIN_HONEST = 2
MAX_GAMMA_PERMILLE = 333


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledMember:
    """One member: its charter name, its organisation, its raw Ed25519 public key (32 bytes). Raises ConfigurationError
    for a name, an organisation or a key of another form."""

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

    `cohort`: fewest members of a round (never below 3). `organisations`: fewest distinct organisations among a round's
    honest members, and among its honest survivors, for any choice of colluders. `organisation_share_permille`: largest
    share of one organisation in a round. `gamma_permille`: share of *all* members of the charter that may collude with
    the coordinator (below 1/3). `honest`: fewest honest members in a sum (h_min, never below 2). `dropout_permille`:
    dropouts that the graph of a round with more than 256 members is built for (delta). Raises ConfigurationError for a
    floor outside its bounds.
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

    def corrupt(self, members: int) -> int:
        """C: how many of the charter's `members` may collude with the coordinator. All of them may be in one roster."""
        return self.gamma_permille * members // 1000

    def smallest_cohort(self, members: int) -> int:
        """The smallest cohort floor that a charter of so many members can have: all colluders plus the honest floor."""
        return max(MIN_COHORT, self.corrupt(members) + self.honest)

    def require_room(self, members: int) -> None:
        """Raises ConfigurationError, saying which numbers would work, when a round of the smallest cohort could hold
        every colluder and fewer honest members than a sum needs."""
        corrupt, needed = self.corrupt(members), self.smallest_cohort(members)
        if self.cohort >= needed:
            return
        room = self.cohort - self.honest
        gamma = max(g for g in range(self.gamma_permille) if g * members // 1000 <= room)
        raise ConfigurationError(
            f"of {members} members {corrupt} may collude (gamma {self.gamma_permille} thousandths), and a sum needs "
            f"{self.honest} honest ones beside them: a smallest cohort of {self.cohort} is too small; "
            f"set it to {needed} or more, or gamma to {gamma} thousandths or less"
        )

    def require_possible(self, sizes: Mapping[str, int]) -> None:
        """Checks that rounds are possible under these floors; `sizes` has each organisation's number of members.

        Raises ConfigurationError with a sentence that says which numbers would work.
        """
        members = sum(sizes.values())
        if members < self.cohort:
            raise ConfigurationError(
                f"{members} members are fewer than the smallest cohort, {self.cohort}: "
                f"it can be {self.smallest_cohort(members)} or more, up to {members}"
            )
        self.require_room(members)
        corrupt = self.corrupt(members)
        if (most := honest_organisations(sizes.values(), corrupt)) < self.organisations:
            raise ConfigurationError(
                f"without {corrupt} members that may collude, as few as {most} of {len(sizes)} organisations are "
                f"left, and the floor is {self.organisations}: set it to {max(most, 1)}, or let members of more "
                "organisations in"
            )
        if not any(
            self._holds(size, sizes.values(), corrupt) for size in range(members, self.cohort - 1, -1)
        ):
            raise ConfigurationError(
                f"no round of {self.cohort} to {members} members can have {self.organisations} honest organisations "
                f"with at most {self.organisation_share_permille} thousandths of its members in one: "
                f"raise that share (the largest organisation has {max(sizes.values())} members), or let members of "
                "more organisations in"
            )

    def _holds(self, size: int, sizes: Iterable[int], corrupt: int) -> bool:
        """Whether some roster of `size` meets the floors of organisations. It tries the roster that is spread most
        evenly.
        """
        most = self.organisation_share_permille * size // 1000
        even, left = [], size
        smallest_first = sorted(sizes)
        for place, held in enumerate(smallest_first):
            # The remaining places are spread evenly over the remaining organisations; a small one gives all its
            # members.
            taken = min(held, most, -(-left // (len(smallest_first) - place)))
            even.append(taken)
            left -= taken
        return left == 0 and honest_organisations(even, corrupt) >= self.organisations


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The members of one charter epoch. `retired` holds public keys that must never be accepted again.

    `checks_lengths`: whether each survivor also signs a sketch of its own update's length (sketch.py). `shares`: how
    many honest members' noise is enough for a sum; 1 if each member adds the whole noise. Raises ConfigurationError if
    two members have the same name or key, or if there are too many members."""

    federation: str
    epoch: int
    charter_hash: bytes
    members: tuple[EnrolledMember, ...]
    retired: frozenset[bytes] = frozenset()
    floors: Floors = Floors()
    checks_lengths: bool = False
    shares: int = 1
    _by_name: dict[str, EnrolledMember] = field(init=False, repr=False, compare=False)

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
        self.floors.require_possible(Counter(member.organisation for member in self.members))
        object.__setattr__(self, "_by_name", by_name)

    def corrupt(self, gamma_permille: int) -> int:
        """C: how many members of the charter may collude, under a round's gamma (the charter's, or a stricter one).
        It does not depend on the roster that somebody chose: all of them may be in it."""
        return gamma_permille * len(self.members) // 1000

    def member(self, name: str) -> EnrolledMember:
        """The member of that name. Raises IdentityError when it is unknown or its key is retired."""
        member = self._by_name.get(name)
        if member is None:
            raise IdentityError(f"{name!r} is not a member by the charter", culprit=name)
        if member.public_key in self.retired:
            raise IdentityError(f"the key of {name!r} is retired", culprit=name)
        return member

    def require_cohort(
        self, names: Collection[str], *, cohort: int, organisations: int, corrupt: int
    ) -> None:
        """The floors of a round's members (U1). Raises FloorError."""
        counts = self.sizes(names)
        if (total := len(names)) < cohort:
            raise FloorError(f"a cohort of {total} is below the floor of {cohort}")
        require_organisations(counts, organisations=organisations, corrupt=corrupt)
        largest = max(counts.values())
        if largest * 1000 > self.floors.organisation_share_permille * total:
            raise FloorError(
                f"one organisation holds {largest} of {total} places, more than the charter allows"
            )

    def sizes(self, names: Iterable[str]) -> Counter[str]:
        """How many of `names` each organisation has. Raises IdentityError."""
        return Counter(self.member(name).organisation for name in names)


def require_organisations(sizes: Mapping[str, int], *, organisations: int, corrupt: int) -> None:
    """Requires the floor of honest organisations, for any choice of the `corrupt` colluders. `sizes` is the number of
    members of each organisation. Raises FloorError.

    A sum over the members of one company would reveal that company, as one update reveals one member: colluders of
    other organisations can subtract their own part.
    """
    if (left := honest_organisations(sizes.values(), corrupt)) < organisations:
        raise FloorError(
            f"without {corrupt} colluders as few as {left} organisations are left of {len(sizes)}, "
            f"below the floor of {organisations} organisations"
        )


def honest_organisations(sizes: Iterable[int], corrupt: int) -> int:
    """How many organisations keep an honest member in the worst case, where the `corrupt` colluders fill the smallest
    organisations first. `sizes` are the organisations' numbers of members.
    """
    ordered = sorted(sizes)
    left = len(ordered)
    for size in ordered:
        corrupt -= size
        if corrupt < 0:
            break
        left -= 1
    return left
