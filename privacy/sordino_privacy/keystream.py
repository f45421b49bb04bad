"""All randomness of private training: AES-256 in counter mode under a key that the operating system drew.

The state of a statistical generator (PyTorch's is a Mersenne twister on CPU) can be computed from its output: an
observer of enough noise could compute the rest and subtract it. AES-CTR does not allow this, and needs no extra wheel
(Opacus' `secure_mode` needs torchcsprng, which has none).
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_BLOCK = 1 << 20


class Keystream:
    """An endless stream of uniform bits. Not thread-safe: one per trainer.

    `Keystream.from_system()` is the only way to a stream for real data. Passing a key makes a reproducible stream, for
    tests: everyone who knows the key knows the noise.
    """

    __slots__ = ("_encryptor", "_zeros")

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("a keystream's key is 32 bytes")
        # A fixed nonce is safe because each key starts exactly one stream.
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._zeros = bytes(_BLOCK)

    @classmethod
    def from_system(cls) -> Keystream:
        return cls(os.urandom(32))

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """`count` independent uniform 64-bit words."""
        buffer = bytearray(8 * count)
        view = memoryview(buffer)
        for start in range(0, len(buffer), _BLOCK):
            stop = min(start + _BLOCK, len(buffer))
            self._encryptor.update_into(self._zeros[: stop - start], view[start:stop])
        return np.frombuffer(buffer, dtype=np.uint64)

    def __repr__(self) -> str:
        return "Keystream(key withheld)"
