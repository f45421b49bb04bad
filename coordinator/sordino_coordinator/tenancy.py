"""Whether this machine is still the coordinator, and when it may hold its first round after it took over.

<folder>/
  tenure.json       what this machine's time as the coordinator is signed with; absent on a federation's first machine
  settled           the id of that tenure, once nobody else can hold a round (see `fewest`)
  superseded.json   a later one, which a member or an operator showed: this machine holds no round any more

Why two machines never open two sums of one round, and never fork the chain of releases: a round needs the charter's
smallest cohort, f of N members. A machine that took over, and that cannot know that the old one is gone, begins its
first round only once N - f + 1 members have answered its offer. Each of them stores the new tenure before it answers,
and accepts no offer of the old machine after that: so fewer than f are left for the old one. This holds between
machines that offer a round before they propose it, as ours do: a proposal itself carries no tenure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sordino_platform.charter import CharterStore
from sordino_platform.durable import read_file, write_file
from sordino_platform.tenure import FILE, SignedTenure, keep_tenure, read_tenure, replaces
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import Membership

SETTLED = "settled"
SUPERSEDED = "superseded.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """What a coordinator's folder says about its tenure. The files are read again at each call, since a command may
    write them beside the running process."""

    folder: Path
    charters: CharterStore

    def own(self) -> SignedTenure | None:
        """This machine's tenure; None on the first machine. Raises ConfigurationError, StorageError."""
        return self._read(FILE)

    def require_current(self) -> None:
        """Raises ConfigurationError once another machine has taken over."""
        later = self._read(SUPERSEDED)
        if later is not None and later != self.own():
            raise ConfigurationError(
                f"another machine took over this federation on {later.tenure.begun_at:%Y-%m-%d %H:%M} UTC "
                f"(generation {later.tenure.generation}): members take part in nothing of this one any more",
                hint="leave it stopped, or let it follow the other from a fresh folder: docs/guides/standby.md",
            )

    def note(self, data: bytes) -> bool:
        """Notes a tenure that is not this machine's and at least as high. Returns whether it is one. A tenure counts
        only if the coordinator's present key signed it: an older key, which an epoch replaced perhaps because it was
        stolen, must not end this machine. Raises StorageError."""
        today = {self.charters.head().charter.coordinator.identity_key}
        try:
            shown = SignedTenure.parse(data, federation=self._federation(), keys=today)
        except ConfigurationError:
            return False
        own = self.own()
        if shown == own or replaces(own, shown):
            return False
        keep_tenure(self.folder / SUPERSEDED, shown)
        return True

    def parse(self, data: bytes) -> SignedTenure:
        """A tenure of this federation. Raises ConfigurationError."""
        return SignedTenure.parse(data, federation=self._federation(), keys=self._keys())

    def begin(self, tenure: SignedTenure, *, settled: bool) -> None:
        """From now on this machine is the coordinator. `settled`: the other one is known to hold no round any more."""
        (self.folder / SUPERSEDED).unlink(missing_ok=True)
        keep_tenure(self.folder / FILE, tenure)
        if settled:
            self.settle()

    def settle(self) -> None:
        """Notes that no other machine can hold a round any more."""
        own = self.own()
        if own is not None and not self.settled():
            write_file(self.folder / SETTLED, own.tenure.id.hex().encode())

    def settled(self) -> bool:
        """Whether a round may begin with as few members as the charter lets it."""
        own, path = self.own(), self.folder / SETTLED
        if own is None:
            return True
        return path.exists() and read_file(path, limit=128) == own.tenure.id.hex().encode()

    def fewest(self, membership: Membership) -> int:
        """The fewest members whose answer must be there before a round begins, for this reason alone."""
        return 0 if self.settled() else len(membership.members) - membership.floors.cohort + 1

    def _read(self, name: str) -> SignedTenure | None:
        return read_tenure(self.folder / name, federation=self._federation(), keys=self._keys())

    def _federation(self) -> str:
        return self.charters.head().charter.federation

    def _keys(self) -> Collection[bytes]:
        return {signed.charter.coordinator.identity_key for signed in self.charters.chain()}
