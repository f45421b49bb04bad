"""The signed charter, and the rules by which epochs follow each other.

On disk and on the wire a signed charter is one canonical document: the charter, the root's public key and its
signature. The key inside is not trusted by itself. Trust comes from its fingerprint, which people compared out of band
and which every call here requires.

Rules of succession, which `require_successor` enforces:

* the same epoch is accepted only with the same hash (two different charters of one epoch mean a dishonest root);
* a lower epoch is refused, whoever sent it;
* a higher epoch is accepted only directly after the held one, and only when it names the held one's hash;
* a retired key stays retired.
"""

from __future__ import annotations

from sordino_platform.canonical import Document, Key, Signature, decode, encode, require_signature, sign
from sordino_platform.charter.document import LABEL, MAX_CHARTER_BYTES, NO_PREVIOUS, Charter
from sordino_platform.keys import fingerprint, parse_fingerprint
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg.refusals import IdentityError
from sordino_privacy.signing import Signer


class SignedCharter(Document):
    """A charter and the root's signature over it. `verify` before using anything inside."""

    charter: Charter
    root_key: Key
    signature: Signature

    @classmethod
    def sign(cls, charter: Charter, root: Signer) -> SignedCharter:
        """Signs with the offline root key."""
        return cls(charter=charter, root_key=root.public_key, signature=sign(root, LABEL, encode(charter)))

    @classmethod
    def parse(cls, data: bytes, *, root: str, what: str = "the charter") -> SignedCharter:
        """A charter from untrusted bytes; `root` is the pinned fingerprint of the root key.

        Raises ConfigurationError when the bytes are not a canonical charter, the root key has another fingerprint, or
        the signature is wrong.
        """
        signed = cls.parse_unverified(data, what=what)
        signed.verify(root=root, what=what)
        return signed

    @classmethod
    def parse_unverified(cls, data: bytes, *, what: str = "the charter") -> SignedCharter:
        """Parses without a pinned root. Only for showing a charter to a person who is about to compare its
        fingerprint."""
        return decode(cls, data, limit=MAX_CHARTER_BYTES, what=what)

    def verify(self, *, root: str, what: str = "the charter") -> None:
        """Raises ConfigurationError unless the pinned root signed exactly this charter."""
        if fingerprint(self.root_key) != parse_fingerprint(root):
            raise ConfigurationError(
                f"{what} is signed by another root key than the pinned one",
                hint=f"its fingerprint is {fingerprint(self.root_key)}; compare it with the root's holder",
            )
        require_signature(self.root_key, LABEL, encode(self.charter), self.signature, what=what)

    @property
    def root_fingerprint(self) -> str:
        """The fingerprint to compare out of band."""
        return fingerprint(self.root_key)


def require_successor(held: Charter | None, offered: Charter) -> None:
    """Checks that `offered` may replace `held` (None: nothing is held yet, and only a first epoch may begin a chain).

    Raises IdentityError (refusal 1) for a lower epoch or a second charter of the same epoch, ConfigurationError for a
    gap or a broken chain.
    """
    if held is None:
        if offered.previous != NO_PREVIOUS:
            raise ConfigurationError(
                f"the chain of charters begins at epoch {offered.epoch}",
                hint="ask for every epoch, from 1 on",
            )
        return
    if offered.federation != held.federation:
        raise ConfigurationError(f"the charter is of {offered.federation}, not of {held.federation}")
    if offered.epoch < held.epoch:
        raise IdentityError(f"the charter went back from epoch {held.epoch} to {offered.epoch}")
    if offered.epoch == held.epoch:
        if offered.hash() != held.hash():
            raise two_charters(held.epoch)
        return
    if offered.epoch > held.epoch + 1:
        raise ConfigurationError(
            f"charters between epoch {held.epoch} and {offered.epoch} are missing",
            hint="ask for each of them",
        )
    if offered.previous != held.hash():
        raise ConfigurationError(f"epoch {offered.epoch} does not follow the charter that is held")
    if not {k.identity_key for k in held.retired} <= {k.identity_key for k in offered.retired}:
        raise ConfigurationError(f"epoch {offered.epoch} takes a retired key back")


def two_charters(epoch: int) -> IdentityError:
    """The error for two different charters of one epoch, both signed by the root."""
    return IdentityError(
        f"there are two different charters of epoch {epoch}",
        hint="the root signed both: stop, and ask its holder why",
    )
