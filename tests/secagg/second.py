"""A second implementation of `sordino-secagg/2`, written from docs/protocol.md and nothing else of the project.

Tiny, slow, complete graphs only, no checks: it exists to show that the document says enough to interoperate. Another
cryptographic library (pycryptodome), no numpy, no shared code.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Any

from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key, key_agreement
from Crypto.Protocol.KDF import HKDF
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

SUITE = b"sordino-secagg/2"
P = 2**256 - 189


def lp(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(f)) + f for f in fields)


def h(purpose: str, *fields: bytes) -> bytes:
    return sha256(lp(SUITE + b"/" + purpose.encode(), *fields)).digest()


def sign(seed: bytes, purpose: str, *fields: bytes) -> bytes:
    key = ECC.construct(curve="Ed25519", seed=seed)  # type: ignore[arg-type]
    return eddsa.new(key, "rfc8032").sign(lp(SUITE + b"/sign/" + purpose.encode(), *fields))


def derive(secret: bytes, salt: bytes, purpose: str, *info: bytes) -> bytes:
    return bytes(HKDF(secret, 32, salt, SHA256, context=lp(SUITE + b"/" + purpose.encode(), *info)))  # type: ignore[arg-type]


def x25519(private: bytes, public: bytes) -> bytes:
    mine, theirs = import_x25519_private_key(private), import_x25519_public_key(public)
    return bytes(key_agreement(static_priv=mine, static_pub=theirs, kdf=lambda z: z))


def base(private: bytes) -> bytes:
    return x25519(private, (9).to_bytes(32, "little"))


def ctr(key: bytes, size: int) -> bytes:
    """AES-256-CTR from IV 0, through another library than the product's."""
    return AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=0).encrypt(bytes(size))


def name(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def u16(value: int) -> bytes:
    return struct.pack(">H", value)


def polynomial(coefficients: list[int], x: int) -> int:
    """Highest coefficient first, as drawn; the secret last."""
    total: int = sum(c * x**power for power, c in enumerate(reversed(coefficients)))
    return total % P


def context(case: dict[str, Any], quantiser: dict[str, Any]) -> tuple[bytes, bytes]:
    """The encoded context and ctx."""
    limit, groups = quantiser["cohort_limit"], quantiser["groups"]
    body = u16(limit) + u16(quantiser["shares"]) + u16(len(groups))
    body += b"".join(name(n) + struct.pack(">Id", length, reach) for n, length, reach in groups)
    hashes = [bytes.fromhex(case[k]) for k in ("server_nonce", "model_hash", "train_config_hash")]
    charter, floors = (
        bytes.fromhex(case["charter_hash"]),
        [case["gamma_permille"], case["cohort"], case["organisations"]],
    )
    encoded = (
        SUITE
        + b"\x01"
        + name(SUITE.decode())
        + name(case["federation"])
        + struct.pack(">I", case["epoch"])
        + charter
    )
    encoded += name(case["run"]) + struct.pack(">II", case["round"], case["attempt"]) + b"".join(hashes)
    encoded += b"".join(u16(floor) for floor in floors) + body

    def number(value: int) -> bytes:
        return struct.pack(">Q", value)

    ctx = h(
        "ctx",
        case["federation"].encode(),
        number(case["epoch"]),
        charter,
        case["run"].encode(),
        number(case["round"]),
        number(case["attempt"]),
        *hashes,
        h("quantiser", SUITE + b"\x20" + body),
        SUITE,
        number(quantiser["length"]),
        number(16),
        *(number(floor) for floor in floors),
    )
    return encoded, ctx


def tree(leaves: list[bytes]) -> bytes:
    while len(leaves) > 1:
        pairs = [leaves[i : i + 2] for i in range(0, len(leaves), 2)]
        leaves = [h("node", *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return leaves[0]


def path(leaves: list[bytes], index: int) -> list[bytes]:
    out = []
    while len(leaves) > 1:
        if index ^ 1 < len(leaves):
            out.append(leaves[index ^ 1])
        pairs = [leaves[i : i + 2] for i in range(0, len(leaves), 2)]
        leaves, index = [h("node", *pair) if len(pair) == 2 else pair[0] for pair in pairs], index // 2
    return out


class Player:
    """One member, from its identity key, its draws and its update; `bits` is the ring."""

    def __init__(self, me: str, identity: bytes, draws: list[bytes], ctx: bytes, bits: int) -> None:
        self.me, self.identity, self.ctx, self.bits = me, identity, ctx, bits
        self.e, self.s_seed, self.b_seed, nonce = draws[:4]
        self.challenge_nonce = b"".join(draws[4:])  # a member that drops out before phase 4 draws none
        self.s = derive(self.s_seed, ctx, "s", me.encode())
        commitment = h("commit", ctx, me.encode(), self.b_seed)
        self.signed = (ctx, me.encode(), base(self.e), base(self.s), commitment, nonce)
        self.signature = sign(identity, "advertise", *self.signed)
        self.entry = ctx + name(me) + b"".join(self.signed[2:]) + self.signature
        self.advertisement = SUITE + b"\x02" + self.entry

    def join(self, players: list[Player], r: bytes, t: int) -> None:
        """Phase 2: shares for every member of the sorted roster `players`."""
        self.r, self.players = r, players
        stream = ctr(derive(self.e, r, "polynomials", self.me.encode()), 64 * (t - 1))
        drawn = [int.from_bytes(stream[low : low + 32], "big") for low in range(0, len(stream), 32)]
        b = [*drawn[: t - 1], int.from_bytes(self.b_seed, "big")]
        s = [*drawn[t - 1 :], int.from_bytes(self.s_seed, "big")]
        self.given, self.leaves, body = {}, [], b""
        for x, other in enumerate(players, 1):
            pair = [polynomial(c, x).to_bytes(32, "big") for c in (b, s)]
            self.given[other.me] = pair
            ids = (self.me.encode(), other.me.encode())
            if other is self:
                sealed = bytes(80)
            else:
                shared = x25519(self.e, other.signed[2])
                key = derive(shared, r, "share", *ids, self.signed[2], other.signed[2])
                box = AES.new(key, AES.MODE_GCM, nonce=bytes(12))
                box.update(lp(SUITE + b"/share", r, *ids))
                sealed = b"".join(box.encrypt_and_digest(b"".join(pair)))
            committed = [h("commit-share", r, *ids, w, v) for w, v in zip((b"b", b"s"), pair, strict=True)]
            self.leaves.append((sealed, *committed))
            body += name(other.me) + sealed + b"".join(committed)
        self.hashes = [h("leaf", o.me.encode(), *leaf) for o, leaf in zip(players, self.leaves, strict=True)]
        root = tree(self.hashes)
        self.statement = name(self.me) + root + sign(self.identity, "shares", r, self.me.encode(), root)
        self.shares = SUITE + b"\x04" + r + u16(len(players)) + body + self.statement

    def delivery(self) -> bytes:
        """What the coordinator sends in phase 3 when all of the roster shared."""
        index = self.players.index(self)
        out = SUITE + b"\x05" + self.r + u16(len(self.players)) + b"".join(p.statement for p in self.players)
        out += u16(len(self.players) - 1)
        for player in self.players:
            if player is not self:
                siblings = path(player.hashes, index)
                leaf = b"".join(player.leaves[index])
                out += name(player.me) + leaf + bytes([len(siblings)]) + b"".join(siblings)
        return out

    def complaint(
        self, accused: Player, statement: bytes, leaf: bytes, siblings: list[bytes], k: bytes
    ) -> bytes:
        """Phase 3: shows the parcel that `accused` sent, with the point Z of the pair and its proof. `k`: 64 bytes."""
        scalar = bytearray(self.e)
        scalar[0], scalar[31] = scalar[0] & 248, scalar[31] & 127 | 64
        x = int.from_bytes(scalar, "little") // 8 % ORDER
        p, a = point_of(accused.signed[2]), times(x, times(8, BASE))
        if a[0] % 2:
            x, a = ORDER - x, (-a[0] % Q, a[1])
        h8 = times(8, p)
        z, once = times(x, h8), int.from_bytes(k, "little") % ORDER
        ids = (accused.me.encode(), self.me.encode())
        parts = (a, p, z, times(once, times(8, BASE)), times(once, h8))
        c = int.from_bytes(h("equality", self.r, *ids, *map(compressed, parts)), "big") % ORDER
        proof = compressed(z) + c.to_bytes(32, "big") + ((once + c * x) % ORDER).to_bytes(32, "big")
        body = SUITE + b"\x0d" + self.r + name(self.me) + statement + leaf
        body += bytes([len(siblings)]) + b"".join(siblings) + proof
        return body + sign(self.identity, "complaint", body)

    def masks(self) -> list[tuple[bytes, int]]:
        out = [(derive(self.b_seed, self.r, "self", self.me.encode()), 1)]
        for other in self.players:
            if other is not self:
                low, high = sorted((self, other), key=lambda p: p.me)
                info = (low.me.encode(), high.me.encode(), low.signed[3], high.signed[3], bytes([self.bits]))
                key = derive(x25519(self.s, other.signed[3]), self.r, "pair", *info)
                out.append((key, 1 if self.me < other.me else -1))
        return out

    def upload(self, x: bytes, u2: bytes) -> list[bytes]:
        """Header, one slice (the vectors are short), trailer."""
        size = self.bits // 8
        y = list(elements(x, size))
        for key, sign_of in self.masks():
            y = [
                (a + sign_of * m) % 2**self.bits
                for a, m in zip(y, elements(ctr(key, len(x)), size), strict=True)
            ]
        body = b"".join(v.to_bytes(size, "little") for v in y)
        hy = h("y", sha256(body).digest())
        header = SUITE + b"\x06" + self.r + name(self.me) + u2 + struct.pack(">IB", len(y), self.bits)
        self.receipt = (
            name(self.me) + u2 + hy + sign(self.identity, "upload", self.r, self.me.encode(), u2, hy)
        )
        self.vector_hash, self.y = hy, y
        return [header, body, SUITE + b"\x07" + self.receipt]

    def assent(self, u2: bytes, u3: bytes, hy: bytes) -> bytes:
        said = (self.r, self.me.encode(), u2, u3, hy, self.challenge_nonce)
        return (
            SUITE + b"\x09" + name(self.me) + self.challenge_nonce + sign(self.identity, "survivors", *said)
        )

    def sketch(self, challenge: bytes) -> bytes:
        """Of the upload; this charter asks for no lengths."""
        body = b"".join(row.to_bytes(16, "big") for row in rows(self.y, challenge)) + u16(0)
        signed = sign(self.identity, "sketch", self.r, challenge, self.me.encode(), body)
        return name(self.me) + body + signed

    def reveal(self, alive: list[Player], dropped: list[Player], challenge: bytes) -> bytes:
        body = SUITE + b"\x0b" + self.r + name(self.me)
        for which, owners in enumerate((alive, dropped)):
            body += u16(len(owners)) + b"".join(name(o.me) + o.given[self.me][which] for o in owners)
        body += self.sketch(challenge)
        return body + sign(self.identity, "reveal", body)


def rows(values: list[int], challenge: bytes) -> list[int]:
    """The digest of a vector of integers."""
    out = []
    for row in range(4):
        words = elements(ctr(h("row", challenge, bytes([row])), 4 * len(values)), 4)
        out.append(sum(word * value for word, value in zip(words, values, strict=True)))
    return out


def lengths(values: list[int], groups: list[tuple[int, float]], cohort: int, challenge: bytes) -> list[float]:
    """The projections of an update whose coordinates are signed integers."""
    out, levels = [0.0] * 128, (2**15 - 1) // cohort
    steps = [reach / levels for length, reach in groups for _ in range(length)]
    for block in range(4):
        words = elements(ctr(h("length", challenge, bytes([block])), 2 * len(steps)), 2)
        for word, value, step in zip(words, values, steps, strict=False):
            out[32 * block + word % 32] += -step * value if word & 0x8000 else step * value
    return out


Q = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, Q) % Q
Point = tuple[int, int]


def plus(a: Point, b: Point) -> Point:
    """On edwards25519, in affine coordinates."""
    t = D * a[0] * b[0] * a[1] * b[1] % Q
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + t, -1, Q) % Q
    return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, -1, Q) % Q


def times(scalar: int, point: Point) -> Point:
    total = (0, 1)
    while scalar:
        if scalar & 1:
            total = plus(total, point)
        point, scalar = plus(point, point), scalar >> 1
    return total


def even(y: int) -> Point:
    """The point with this y and an even x."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, Q) % Q
    x = pow(square, (Q + 3) // 8, Q)
    if x * x % Q != square:
        x = x * pow(2, (Q - 1) // 4, Q) % Q
    assert x * x % Q == square
    return (x if x % 2 == 0 else Q - x), y


BASE = even(4 * pow(5, -1, Q) % Q)


def point_of(public: bytes) -> Point:
    u = int.from_bytes(public, "little")
    return even((u - 1) * pow(u + 1, -1, Q) % Q)


def compressed(point: Point) -> bytes:
    return (point[1] | point[0] % 2 << 255).to_bytes(32, "little")


def elements(data: bytes, size: int) -> list[int]:
    return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]


def recover(shares: dict[int, int]) -> int:
    """Lagrange at 0."""
    total = 0
    for x, y in shares.items():
        for other in shares:
            if other != x:
                y = y * other * pow(other - x, -1, P) % P
        total += y
    return total % P


def quantise(case: dict[str, Any], groups: list[tuple[int, float]], cohort: int) -> bytes:
    """A member's update as a 16-bit ring vector with its limbs, from the dither key."""
    levels, bits = (2**15 - 1) // cohort, 16
    fraction = min(16, 30 - levels.bit_length())
    weight = round(case["weight"] * 65536)
    dither = elements(ctr(bytes.fromhex(case["dither_key"]), 2 * len(case["update"])), 2)
    ranges = [reach for length, reach in groups for _ in range(length)]
    out, saturated, limit = [], 0, levels << fraction
    for value, reach, noise in zip(case["update"], ranges, dither, strict=True):
        t = f32(f32(value) * f32(weight / 65536 * limit / reach))
        saturated += abs(t) > limit
        t = min(max(round(t), -limit), limit)
        out.append((t + (noise >> (16 - fraction))) >> fraction)
    limb = bits - cohort.bit_length()
    numbers = (weight, saturated, round(weight * case["loss"]), case["examples"])
    for number, width in zip(numbers, (17, 31, 24, 41), strict=True):
        out += [number >> (limb * i) & (2**limb - 1) for i in range(-(-width // limb))]
    return b"".join((v % 2**bits).to_bytes(2, "little") for v in out)


def f32(value: float) -> float:
    """Rounded to IEEE-754 binary32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
