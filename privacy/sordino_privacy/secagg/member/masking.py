"""Phase 3 at a member, what it sends: the masks of its upload, and the upload's frames.

Every two neighbours agree on a key, and so on one mask. One of them adds it and the other subtracts it, so it cancels
in the sum. Each member also adds a mask of its own, which only a quorum can remove (Bonawitz et al., "Practical Secure
Aggregation for Privacy-Preserving Machine Learning", CCS 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from sordino_privacy.secagg import keys
from sordino_privacy.secagg.encoding import KEY_BYTES
from sordino_privacy.secagg.masks import Mask, RingVector
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.upload import UploadHeader, UploadReceipt, masked_slices, vector_digest
from sordino_privacy.signing import Signer

Frame = bytes | memoryview


def masking_peers(roster: Roster, me: str, u2: Collection[str]) -> tuple[str, ...]:
    """The neighbours in U2, sorted. This member shares a mask with each of them."""
    in_u2 = set(u2)
    return tuple(peer for peer in roster.neighbours(me) if peer in in_u2)


def mask_keys(
    roster: Roster, me: str, peers: Sequence[str], self_seed: bytes, pair_seed: bytes, ring_bits: int
) -> bytes:
    """K_self, and K_pair with each of `peers`, 32 bytes each. Both seeds are those that were shared in phase 2."""
    private = keys.exchange_key(keys.mask_private_key(pair_seed, roster.ctx, me))
    mine = (me, roster.entry(me).masking)
    made = [keys.self_key(self_seed, roster.hash, me)]
    for peer in peers:
        theirs = (peer, roster.entry(peer).masking)
        low, high = sorted((mine, theirs))
        made.append(keys.pair_key(private, roster.hash, ring_bits, low, high, theirs[1]))
    return b"".join(made)


def masks_of_keys(joined: bytes, me: str, peers: Sequence[str]) -> list[Mask]:
    """The self mask, and one pairwise mask per peer: the lower name adds, the higher subtracts. `joined` is what
    `mask_keys` made for these peers."""
    own, *pairs = (joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES))
    masks = [Mask(key=own, add=True)]
    return masks + [Mask(key=key, add=me < peer) for key, peer in zip(pairs, peers, strict=True)]


def upload_frames(
    header: UploadHeader,
    vector: RingVector,
    masks: Sequence[Mask],
    signer: Signer,
    keep: Callable[[bytes], None],
    *,
    threads: int,
) -> Iterator[Frame]:
    """The header, the masked slices of `vector` (`header.elements` ring elements), and the signed trailer.

    `keep` is called with the trailer before it is yielded, because the member must recognise it in the claim.
    """
    yield header.encode()
    hashes = []
    for piece, piece_hash in masked_slices(vector, masks, threads=threads):
        hashes.append(piece_hash)
        yield piece
    receipt = UploadReceipt.signed(
        signer, header.roster_hash, header.sender, header.u2_hash, vector_digest(hashes)
    ).encode()
    keep(receipt)
    yield receipt
