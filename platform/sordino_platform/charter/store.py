"""The charters that a party holds, one file per epoch: `charter-000001.json`, `charter-000002.json`, ...

The folder is append-only. Every load verifies every epoch against the pinned root and the rules of succession, so an
altered, swapped or removed file in the middle is found before anything in it is used. The folder alone cannot show that
the *newest* file was removed. In that case the charter's expiry limits the harm, and a member whose epoch differs from
the others' refuses the context of every round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sordino_platform.charter.document import MAX_CHARTER_BYTES, Charter
from sordino_platform.charter.parties import FIRST_EPOCH
from sordino_platform.charter.signed import SignedCharter, require_successor, two_charters
from sordino_platform.durable import locked, make_folder, read_file, write_file
from sordino_platform.keys import parse_fingerprint
from sordino_privacy.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Epochs:
    """Verified epochs of a federation, in memory, oldest first."""

    charters: tuple[Charter, ...]
    _by_hash: Mapping[bytes, Charter]

    def head(self) -> Charter:
        """The newest one."""
        return self.charters[-1]

    def by_hash(self, charter_hash: bytes) -> Charter:
        """The epoch with this hash. Raises ConfigurationError when it is not among them."""
        charter = self._by_hash.get(charter_hash)
        if charter is None:
            raise ConfigurationError(
                f"no charter that is held here has the hash {charter_hash.hex()[:16]}...",
                hint="ask the coordinator or the root's holder for the missing epoch",
            )
        return charter


class CharterStore:
    """A folder of charters and the pinned fingerprint of the root that signs them."""

    def __init__(self, folder: Path, *, root: str) -> None:
        self.folder = folder
        self.root = parse_fingerprint(root)
        self._chain: list[SignedCharter] = []
        self._by_hash: dict[bytes, Charter] = {}

    def chain(self) -> tuple[SignedCharter, ...]:
        """Every epoch held, oldest first. Epochs that another process added since the last call are read now. Raises
        ConfigurationError for a file that is not a valid successor of the epoch before it."""
        while (path := self._path(FIRST_EPOCH + len(self._chain))).exists():
            signed = SignedCharter.parse(
                read_file(path, limit=MAX_CHARTER_BYTES), root=self.root, what=str(path)
            )
            require_successor(self._chain[-1].charter if self._chain else None, signed.charter)
            if signed.charter.epoch != FIRST_EPOCH + len(self._chain):
                raise ConfigurationError(f"{path} holds epoch {signed.charter.epoch}")
            self._chain.append(signed)
            self._by_hash[signed.charter.hash()] = signed.charter
        return tuple(self._chain)

    def head(self) -> SignedCharter:
        """The newest epoch; one `stat` when nothing changed. Raises ConfigurationError when none is held."""
        chain = self.chain()
        if not chain:
            raise ConfigurationError(
                f"{self.folder} holds no charter", hint="`sordino identity install` puts it there"
            )
        return chain[-1]

    def with_offered(self, offered: Sequence[bytes]) -> Epochs:
        """The epochs that this store would hold after it accepted `offered`, in their order. Writes nothing.

        Raises what `accept` raises.
        """
        held = self.head().charter
        chain = [signed.charter for signed in self.chain()]
        known = dict(self._by_hash)
        for data in offered:
            charter = SignedCharter.parse(data, root=self.root).charter
            if charter.hash() in known:
                continue  # sent again: a member that restarted may already hold it
            require_successor(held, charter)
            chain.append(charter)
            known[charter.hash()], held = charter, charter
        return Epochs(tuple(chain), known)

    def accept(self, data: bytes) -> Charter:
        """Verifies and keeps a charter from outside. A charter that is already held is accepted again and changes
        nothing.

        Raises ConfigurationError or IdentityError (see `require_successor`), and then nothing has changed.
        """
        signed = SignedCharter.parse(data, root=self.root)
        make_folder(self.folder)
        with locked(self.folder):
            chain = self.chain()
            require_successor(chain[-1].charter if chain else None, signed.charter)
            if not chain or signed.charter.epoch > chain[-1].charter.epoch:
                write_file(self._path(signed.charter.epoch), data, replace=False)
        return signed.charter

    def accept_chain(self, charters: Sequence[bytes]) -> Charter:
        """Takes over a chain of epochs, oldest first, from a reply or a coordinator; returns the newest held.

        Epochs that are already held must be identical; newer ones follow as `accept` says. A chain that ends before the
        newest held epoch is an older copy and changes nothing. Raises as `accept` does; the epochs before the refused
        one are then kept, each of them verified.
        """
        for data in charters:
            signed = SignedCharter.parse(data, root=self.root)
            epoch, chain = signed.charter.epoch, self.chain()
            if epoch > len(chain):
                self.accept(data)
            elif chain[epoch - FIRST_EPOCH].charter.hash() != signed.charter.hash():
                raise two_charters(epoch)
        return self.head().charter

    def epochs(self) -> Epochs:
        """Every epoch held, in memory."""
        return Epochs(tuple(signed.charter for signed in self.chain()), self._by_hash)

    def by_hash(self, charter_hash: bytes) -> Charter:
        """The held charter with this hash. Raises ConfigurationError when there is none."""
        return self.epochs().by_hash(charter_hash)

    def _path(self, epoch: int) -> Path:
        return self.folder / f"charter-{epoch:06d}.json"
