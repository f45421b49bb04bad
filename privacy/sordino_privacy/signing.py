"""`Signer`: a key that can be asked for signatures, wherever it is stored.

Every signature of a federation is Ed25519 (RFC 8032). The signing key is passed around as a `Signer`, never as bytes:
it may come from a file that this process read (`KeySigner`), or be in hardware that never exports it
(`sordino_platform.pkcs11`). Code that holds a `Signer` can sign and can get the public key, and nothing else.
"""

from __future__ import annotations

from typing import NoReturn, Protocol, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sordino_privacy.errors import ConfigurationError


class SignerError(ConfigurationError):
    """The holder of a signing key does not answer, or it holds another key. Nothing was signed."""


class Signer(Protocol):
    """An Ed25519 key that signs."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key (RFC 8032)."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, 64 bytes. Raises SignerError."""
        ...


class KeySigner:
    """A key in this process's memory. Its repr hides it, it cannot be pickled, and a copy of it is the same object."""

    __slots__ = ("_key", "_public_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key, self._public_key = key, key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        """A new random key that is stored nowhere."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def of(cls, private: bytes) -> Self:
        """The signer of a raw private key (RFC 8032, 32 bytes): for test vectors and for simulated members."""
        return cls(Ed25519PrivateKey.from_private_bytes(private))

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key (RFC 8032)."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, 64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"KeySigner(public_key={self._public_key.hex()}, <private key withheld>)"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not pickled")
