"""From revealed shares to seeds, and from seeds to the masks that are still in the sum, every seed checked against what
its owner signed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sordino_privacy.secagg import keys, shamir
from sordino_privacy.secagg.encoding import KEY_BYTES
from sordino_privacy.secagg.masks import Mask
from sordino_privacy.secagg.refusals import CheatError, ShareError
from sordino_privacy.secagg.roster import Roster, seed_commitment
from sordino_privacy.secagg.survivors import Claim, Reveal

Seeds = Mapping[str, bytes]


def opened_seeds(
    roster: Roster, claim: Claim, reveals: Mapping[str, Reveal]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The self seed of each survivor and the pairwise seed of each dropped member with a surviving neighbour, by name.

    Raises ShareError when shares are missing.
    """
    self_shares: dict[str, dict[int, int]] = defaultdict(dict)
    pair_shares: dict[str, dict[int, int]] = defaultdict(dict)
    for sender, reveal in reveals.items():
        index = roster.positions[sender] + 1
        for owner, share in reveal.self_shares:
            self_shares[owner][index] = share
        for owner, share in reveal.pair_shares:
            pair_shares[owner][index] = share
    owed = [owner for owner in claim.dropped if touched_by(roster, claim, owner)]
    return (
        {owner: _recover(roster, owner, self_shares[owner]) for owner in claim.survivors},
        {owner: _recover(roster, owner, pair_shares[owner]) for owner in owed},
    )


def touched_by(roster: Roster, claim: Claim, owner: str) -> list[str]:
    """The survivors that share a pairwise mask with a dropped member."""
    survivors = set(claim.survivors)
    return [peer for peer in roster.neighbours(owner) if peer in survivors]


def masks_of_seeds(
    roster: Roster, claim: Claim, self_seeds: Seeds, pair_seeds: Seeds, ring_bits: int
) -> list[Mask]:
    """Each survivor's self mask, and its pairwise masks with dropped members, each with the sign that removes it.
    Raises CheatError that names the owner when a seed is not the one it committed to.
    """
    masks = [_self_mask(roster, owner, self_seeds[owner]) for owner in claim.survivors]
    for owner, seed in pair_seeds.items():
        masks += _pair_masks(roster, owner, touched_by(roster, claim, owner), seed, ring_bits)
    return masks


def _self_mask(roster: Roster, owner: str, seed: bytes) -> Mask:
    if seed_commitment(roster.ctx, owner, seed) != roster.entry(owner).commitment:
        raise CheatError(f"{owner!r} shared another self-mask seed than it committed to", culprit=owner)
    return Mask(key=keys.self_key(seed, roster.hash, owner), add=False)


def _pair_masks(roster: Roster, owner: str, touched: list[str], seed: bytes, ring_bits: int) -> list[Mask]:
    raw = keys.mask_private_key(seed, roster.ctx, owner)
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
