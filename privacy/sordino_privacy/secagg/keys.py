"""Key agreement, key derivation, sealing and signing: the whole cryptography of the protocol, one suite.

Every derivation and signature carries a versioned label. `R` (the roster's hash) salts each key, and both parties'
names and public keys are part of each pairwise key's info (RFC 5869, section 3.2).
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sordino_privacy.secagg.encoding import KEY_BYTES, MAX_MEMBERS, joined, label
from sordino_privacy.secagg.refusals import BadParcelError
from sordino_privacy.signing import Signer

CURVE_PRIME = (1 << 255) - 19
# The canonical u-coordinates of order 1, 2, 4 and 8, on the curve and its twist (RFC 7748, section 6.1; a test checks
# them against Wycheproof's).
SMALL_ORDER_KEYS = frozenset(
    u.to_bytes(KEY_BYTES, "little")
    for u in (
        0,
        1,
        CURVE_PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
)
SHARE_PAIR_BYTES = 2 * KEY_BYTES
SEALED_BYTES = SHARE_PAIR_BYTES + 16  # and the tag of AES-GCM
# The nonce is fixed because a sealing key is derived for one direction of one pair under one R and seals one message.
SEAL_NONCE = bytes(12)


def derive(secret: bytes, salt: bytes, purpose: str, *info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869), 32 bytes; info = the versioned label and the fields, each length-prefixed."""
    return HKDF(SHA256(), KEY_BYTES, salt, joined(label(purpose), *info)).derive(secret)


def exchange_key(private: bytes) -> X25519PrivateKey:
    """The X25519 private key of 32 raw bytes (RFC 7748 clamps them). Parsing costs as much as using the key, so parse
    it once.
    """
    return X25519PrivateKey.from_private_bytes(private)


def public_key(private: bytes) -> bytes:
    """The X25519 public key of a raw private key (RFC 7748)."""
    return exchange_key(private).public_key().public_bytes_raw()


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """X25519. Raises ValueError when the result is zero (a public key of small order)."""
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def sound_public_key(public: bytes) -> bool:
    """Whether `public` is a canonical X25519 key of large order.

    A key of small order gives zero with every private key. A non-canonical encoding would let one key count as two. Key
    agreement works with a key on the twist like with any other; no honest member has one, and a complaint names its
    owner (`complaint`).
    """
    if len(public) != KEY_BYTES or public in SMALL_ORDER_KEYS:
        return False
    # Only a key with the same highest byte as the prime can be at or above the prime.
    return public[-1] < CURVE_PRIME >> 248 or int.from_bytes(public, "little") < CURVE_PRIME


def mask_private_key(seed: bytes, ctx: bytes, name: str) -> bytes:
    """s, the X25519 private key of pairwise masks, from the member's shared seed."""
    return derive(seed, ctx, "s", name.encode())


def self_key(seed: bytes, roster_hash: bytes, name: str) -> bytes:
    """K_self, the key of a member's own mask."""
    return derive(seed, roster_hash, "self", name.encode())


def pair_key(
    private: X25519PrivateKey,
    roster_hash: bytes,
    ring_bits: int,
    low: tuple[str, bytes],
    high: tuple[str, bytes],
    peer: bytes,
) -> bytes:
    """K_pair of members `low` < `high` (name, s public key). `private` is the s key of one of them, `peer` the public
    key of the other.
    """
    info = (low[0].encode(), high[0].encode(), low[1], high[1], bytes([ring_bits]))
    return derive(agree(private, peer), roster_hash, "pair", *info)


def seal_key(
    shared: bytes, roster_hash: bytes, sender: tuple[str, bytes], recipient: tuple[str, bytes]
) -> bytes:
    """K_share from `sender` to `recipient` (name, e public key), for this direction only, used once. `shared` is their
    X25519 result.
    """
    info = (sender[0].encode(), recipient[0].encode(), sender[1], recipient[1])
    return derive(shared, roster_hash, "share", *info)


def _aad(roster_hash: bytes, sender: str, recipient: str) -> bytes:
    return joined(label("share"), roster_hash, sender.encode(), recipient.encode())


def seal(key: bytes, shares: bytes, roster_hash: bytes, sender: str, recipient: str) -> bytes:
    """AES-256-GCM over the pair of shares (64 bytes), bound to R, sender and recipient. 80 bytes."""
    return AESGCM(key).encrypt(SEAL_NONCE, shares, _aad(roster_hash, sender, recipient))


def unseal(key: bytes, sealed: bytes, roster_hash: bytes, sender: str, recipient: str) -> bytes:
    """The pair of shares, decrypted. Raises BadParcelError. The length is checked before decryption."""
    if len(sealed) != SEALED_BYTES:
        raise BadParcelError(f"the sealed share from {sender!r} has a wrong length", culprit=sender)
    try:
        return AESGCM(key).decrypt(SEAL_NONCE, sealed, _aad(roster_hash, sender, recipient))
    except InvalidTag as error:
        raise BadParcelError(f"the sealed share from {sender!r} does not open", culprit=sender) from error


def sign(signer: Signer, purpose: str, *fields: bytes) -> bytes:
    """Ed25519 (RFC 8032) over the versioned label and the fields, each length-prefixed. 64 bytes."""
    return signer.sign(joined(label(f"sign/{purpose}"), *fields))


def signed(public: bytes, signature: bytes, purpose: str, *fields: bytes) -> bool:
    """Whether `signature` is a valid one by `public` over these fields. Callers turn False into their own refusal."""
    try:
        _verifier(public).verify(signature, joined(label(f"sign/{purpose}"), *fields))
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=MAX_MEMBERS)
def _verifier(public: bytes) -> Ed25519PublicKey:
    """The parsed key, cached: each member signs several times in every round."""
    return Ed25519PublicKey.from_public_bytes(public)
