"""Phases 1 and 2 at a member: its advertisement, the roster that came back, and its seeds shared among the holders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sordino_privacy.secagg import keys, merkle, shamir
from sordino_privacy.secagg.context import RoundContext
from sordino_privacy.secagg.encoding import HASH_BYTES, KEY_BYTES
from sordino_privacy.secagg.masks import MaskStream
from sordino_privacy.secagg.membership import Membership
from sordino_privacy.secagg.refusals import RosterError, ThresholdError
from sordino_privacy.secagg.roster import Advertisement, Roster, seed_commitment
from sordino_privacy.secagg.shares import Leaf, Shares, Statement, share_commitment
from sordino_privacy.signing import Signer

Entropy = Callable[[int], bytes]
"""`entropy(n)` returns n fresh random bytes."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AttemptSecrets:
    """The secrets that a member draws for one attempt, 32 bytes each: the private exchange key e, and the seeds s and
    b. Both seeds are field elements, so that they can be shared.
    """

    exchange_key: bytes
    pair_seed: bytes
    self_seed: bytes

    @classmethod
    def drawn(cls, entropy: Entropy) -> AttemptSecrets:
        return cls(
            exchange_key=entropy(KEY_BYTES),
            pair_seed=shamir.field_element(entropy).to_bytes(KEY_BYTES, "big"),
            self_seed=shamir.field_element(entropy).to_bytes(KEY_BYTES, "big"),
        )

    def advertisement(self, ctx: bytes, me: str, entropy: Entropy, signer: Signer) -> Advertisement:
        """The signed public keys and commitment; `ctx` is the digest of the attempt's context."""
        return Advertisement(
            ctx=ctx,
            name=me,
            exchange=keys.public_key(self.exchange_key),
            masking=keys.public_key(keys.mask_private_key(self.pair_seed, ctx, me)),
            commitment=seed_commitment(ctx, me, self.self_seed),
            nonce=entropy(HASH_BYTES),
        ).signed(signer)


def admitted_roster(
    message: bytes, me: str, advertisement: bytes, membership: Membership, context: RoundContext
) -> Roster:
    """The roster of `message`, with refusals 1 to 5; `advertisement` is what this member sent.

    Raises RosterError when this member is missing or its entry altered, ThresholdError, and what `Roster.decode` does.
    """
    roster = Roster.decode(message, membership, context, reader=me)
    if me not in roster.positions:
        raise RosterError("this member is missing from the roster")
    if roster.entry(me).encode() != advertisement:
        raise RosterError("this member's entry in the roster was altered")
    if roster.numbers.threshold > roster.holders_each:
        raise ThresholdError("the roster has too few members to share a secret among")
    return roster


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SharedSeeds:
    """`message` is for the coordinator. `kept` is this member's own pair of shares (of b_seed, of s_seed), if it is one
    of its own holders. `agreed` are the points agreed on with the holders, 32 bytes each, in their order."""

    message: Shares
    kept: tuple[int, int] | None
    agreed: bytes


def polynomials(exchange_key: bytes, roster_hash: bytes, me: str) -> Entropy:
    """The source of the polynomials' coefficients: derived from the attempt's secret e and R, 32 bytes each. A parcel
    is sealed under a fixed nonce, so a key may seal only one plaintext. If the coefficients were random, a session that
    shares twice under the same R (restored after its process was killed) would seal two.
    """
    stream = MaskStream(keys.derive(exchange_key, roster_hash, "polynomials", me.encode()))

    def next_bytes(count: int) -> bytes:
        out = np.empty(count, np.uint8)
        stream.fill(out)
        return out.tobytes()

    return next_bytes


def shared_seeds(roster: Roster, me: str, secrets: AttemptSecrets, signer: Signer) -> SharedSeeds:
    """Splits both seeds among the holders, seals a pair of shares for each holder, and signs the commitments. The same
    roster gives the same message.
    """
    holders, drawn = roster.holders(me), polynomials(secrets.exchange_key, roster.hash, me)
    indices = [roster.positions[holder] + 1 for holder in holders]
    split = [
        shamir.split(int.from_bytes(seed, "big"), roster.numbers.threshold, indices, drawn)
        for seed in (secrets.self_seed, secrets.pair_seed)
    ]
    mine, private = (me, roster.entry(me).exchange), keys.exchange_key(secrets.exchange_key)
    leaves, agreed, kept = [], [], None
    for holder, self_share, pair_share in zip(holders, *split, strict=True):
        if holder == me:
            kept = (self_share, pair_share)
            sealed = bytes(keys.SEALED_BYTES)
            agreed.append(bytes(KEY_BYTES))
        else:
            peer = roster.entry(holder).exchange
            agreed.append(keys.agree(private, peer))
            key = keys.seal_key(agreed[-1], roster.hash, mine, (holder, peer))
            pair = self_share.to_bytes(KEY_BYTES, "big") + pair_share.to_bytes(KEY_BYTES, "big")
            sealed = keys.seal(key, pair, roster.hash, me, holder)
        leaves.append(
            Leaf(
                recipient=holder,
                sealed=sealed,
                self_commitment=share_commitment(roster.hash, me, holder, "b", self_share),
                pair_commitment=share_commitment(roster.hash, me, holder, "s", pair_share),
            )
        )
    statement = Statement.signed(signer, roster.hash, me, merkle.root([leaf.digest() for leaf in leaves]))
    return SharedSeeds(
        message=Shares(roster_hash=roster.hash, statement=statement, leaves=tuple(leaves)),
        kept=kept,
        agreed=b"".join(agreed),
    )
