"""A proof that a public point Z is the Diffie-Hellman result of two public X25519 keys, which reveals Z and no key.

A member that must show one sealing key cannot publish its private key: that would open every parcel to and from it. It
publishes the one shared point Z, and proves that the secret which made its public key A = a B also made Z = a P from
the other's public key P (Chaum and Pedersen, CRYPTO '92; non-interactive by Fiat and Shamir).

X25519 works on u-coordinates with clamped scalars, which are multiples of 8. So with a = 8 x, G = 8 B and H = 8 P the
statement is A = x G and Z = x H in the subgroup of prime order L of edwards25519 (RFC 7748, section 4.1, maps one to
the other). A point and its negative have the same u-coordinate. A is taken with an even x-coordinate, which fixes the
sign of the secret. P is taken with an even x-coordinate too. Z is sent with its sign; its u-coordinate is the same with
either sign.

The arithmetic is in Python integers and not constant-time. The secret is a key of one attempt, on the member's own
machine, and the code runs only after a member was cheated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from sordino_privacy.secagg.encoding import KEY_BYTES, MessageReader, Writer, digest
from sordino_privacy.secagg.keys import CURVE_PRIME as P

ORDER = (1 << 252) + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
PROOF_BYTES = 3 * KEY_BYTES

Point = tuple[int, int, int, int]  # extended coordinates x, y, z, xy/z (Hisil et al. 2008)
IDENTITY: Point = (0, 1, 1, 0)


def add(a: Point, b: Point) -> Point:
    """The complete addition law of edwards25519 (RFC 8032, section 5.1.4)."""
    one, two = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    three, four = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = two - one, four - three, four + three, two + one
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar: int, point: Point) -> Point:
    """`scalar` times `point`."""
    result = IDENTITY
    for bit in f"{scalar:b}":
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def minus(point: Point) -> Point:
    """The negative of `point`."""
    x, y, z, t = point
    return -x % P, y, z, -t % P


def lifted(y: int, sign: int) -> Point | None:
    """The point with this y-coordinate, and an x-coordinate that is even (sign 0) or odd; None when there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


def of_key(public: bytes) -> Point | None:
    """The point of an X25519 public key, with an even x-coordinate; None for a key on the twist."""
    u = int.from_bytes(public, "little") % P
    return lifted((u - 1) * pow(u + 1, -1, P) % P, 0) if u != P - 1 else None


def compressed(point: Point) -> bytes:
    """y and the sign of x, 32 bytes (RFC 8032, section 5.1.2)."""
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(KEY_BYTES, "little")


def decompressed(data: bytes) -> Point | None:
    """The point, or None for bytes that are not the canonical encoding of a point."""
    value = int.from_bytes(data, "little")
    y = value & ((1 << 255) - 1)
    return lifted(y, value >> 255) if y < P else None


def u_coordinate(point: Point) -> bytes:
    """The u-coordinate that X25519 would return for this point. The identity has none; callers never ask for it."""
    _, y, z, _ = point
    return ((z + y) * pow(z - y, -1, P) % P).to_bytes(KEY_BYTES, "little")


BASE = lifted(4 * pow(5, -1, P) % P, 0) or IDENTITY  # B, which every textbook lifts with an even x
G = times(8, BASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equality:
    """Z (compressed), and the proof: a challenge and a response, each below the subgroup's order."""

    shared: bytes
    challenge: int
    response: int

    @classmethod
    def proven(cls, private: bytes, theirs: bytes, entropy: Callable[[int], bytes], *bound: bytes) -> Self:
        """Z of this private key and the public key `theirs`, with the proof bound to `bound`. All zero for a key on the
        twist: no secret makes such a key from the base point, so its owner is dishonest for any Z.
        """
        clamped = bytearray(private)
        clamped[0] &= 248
        clamped[31] = clamped[31] & 127 | 64
        secret = (int.from_bytes(clamped, "little") >> 3) % ORDER
        peer = of_key(theirs)
        if peer is None:  # nothing can be proven of a key on the twist, and nothing need be
            return cls(shared=bytes(KEY_BYTES), challenge=0, response=0)
        mine = times(secret, G)
        if compressed(mine)[31] >> 7:
            secret, mine = ORDER - secret, minus(mine)
        h = times(8, peer)
        shared = compressed(times(secret, h))
        # 64 bytes for a number of 253 bits: the bias of the reduction is negligible.
        once = int.from_bytes(entropy(KEY_BYTES) + entropy(KEY_BYTES), "little") % ORDER
        challenge = _challenge(mine, peer, shared, times(once, G), times(once, h), bound)
        return cls(shared=shared, challenge=challenge, response=(once + challenge * secret) % ORDER)

    def verified(self, mine: bytes, theirs: bytes, *bound: bytes) -> bytes | None:
        """The X25519 result of the owners of the public keys `mine` (the prover's) and `theirs`; None if it is not
        proven. Z must lie in the subgroup: a point of small order added to it would change its u-coordinate.
        """
        a, peer, z = of_key(mine), of_key(theirs), decompressed(self.shared)
        if a is None or peer is None or z is None or max(self.challenge, self.response) >= ORDER:
            return None
        if compressed(z) == compressed(IDENTITY) or compressed(times(ORDER, z)) != compressed(IDENTITY):
            return None
        h = times(8, peer)
        first = add(times(self.response, G), minus(times(self.challenge, a)))
        second = add(times(self.response, h), minus(times(self.challenge, z)))
        if _challenge(a, peer, self.shared, first, second, bound) != self.challenge:
            return None
        return u_coordinate(z)

    def write(self, writer: Writer) -> None:
        for part in (self.shared, *(n.to_bytes(KEY_BYTES, "big") for n in (self.challenge, self.response))):
            writer.raw(part)

    @classmethod
    def read(cls, reader: MessageReader) -> Self:
        return cls(
            shared=reader.raw(KEY_BYTES),
            challenge=reader.integer(KEY_BYTES),
            response=reader.integer(KEY_BYTES),
        )


def _challenge(
    mine: Point, peer: Point, shared: bytes, first: Point, second: Point, bound: tuple[bytes, ...]
) -> int:
    points = (compressed(mine), compressed(peer), shared, compressed(first), compressed(second))
    return int.from_bytes(digest("equality", *bound, *points), "big") % ORDER
