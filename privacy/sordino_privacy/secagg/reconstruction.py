"""From revealed shares to the masks that are still in the sum, with every recovered secret checked against what its
owner signed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sordino_privacy.secagg import keys, shamir
from sordino_privacy.secagg.encoding import KEY_BYTES
from sordino_privacy.secagg.masks import Mask
from sordino_privacy.secagg.refusals import CheatError, ShareError
from sordino_privacy.secagg.roster import Roster, seed_commitment
from sordino_privacy.secagg.survivors import Claim, Reveal


def outstanding_masks(
    roster: Roster, claim: Claim, reveals: Mapping[str, Reveal], ring_bits: int
) -> list[Mask]:
    """Each survivor's self mask, and its pairwise masks with dropped members, with the sign that removes it.

    Raises ShareError when shares are missing, CheatError naming the owner when a seed is not the one it committed to.
    """
    self_shares: dict[str, dict[int, int]] = defaultdict(dict)
    pair_shares: dict[str, dict[int, int]] = defaultdict(dict)
    for sender, reveal in reveals.items():
        index = roster.positions[sender] + 1
        for owner, share in reveal.self_shares:
            self_shares[owner][index] = share
        for owner, share in reveal.pair_shares:
            pair_shares[owner][index] = share
    masks = [_self_mask(roster, owner, self_shares[owner]) for owner in claim.survivors]
    survivors = set(claim.survivors)
    for owner in claim.dropped:
        touched = [peer for peer in roster.neighbours(owner) if peer in survivors]
        if touched:
            masks += _pair_masks(roster, owner, touched, pair_shares[owner], ring_bits)
    return masks


def _self_mask(roster: Roster, owner: str, shares: Mapping[int, int]) -> Mask:
    seed = _recover(roster, owner, shares)
    if seed_commitment(roster.ctx, owner, seed) != roster.entry(owner).commitment:
        raise CheatError(f"{owner!r} shared another self-mask seed than it committed to", culprit=owner)
    return Mask(key=keys.self_key(seed, roster.hash, owner), add=False)


def _pair_masks(
    roster: Roster, owner: str, touched: list[str], shares: Mapping[int, int], ring_bits: int
) -> list[Mask]:
    raw = keys.mask_private_key(_recover(roster, owner, shares), roster.ctx, owner)
    mine, private = (owner, roster.entry(owner).masking), keys.exchange_key(raw)
    if keys.public_key(raw) != mine[1]:
        raise CheatError(f"{owner!r} shared another pairwise seed than its public key's", culprit=owner)
    masks = []
    for peer in touched:
        theirs = (peer, roster.entry(peer).masking)
        low, high = sorted((mine, theirs))
        key = keys.pair_key(private, roster.hash, ring_bits, low, high, theirs[1])
        # The surviving peer added the mask when its name is the lower; so it is removed by subtracting.
        masks.append(Mask(key=key, add=peer > owner))
    return masks


def _recover(roster: Roster, owner: str, shares: Mapping[int, int]) -> bytes:
    threshold = roster.numbers.threshold
    if len(shares) < threshold:
        raise ShareError(f"{len(shares)} shares of {owner!r} are below the threshold of {threshold}")
    return shamir.recover(shares, threshold).to_bytes(KEY_BYTES, "big")
