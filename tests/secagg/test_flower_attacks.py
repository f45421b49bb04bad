"""Attacks that open a single client's update under Flower's SecAgg+ (flwr 1.42), each run on Flower's real functions
and then, as the same lie, on ours, where it fails.

The attacker is the server. In each test of Flower it ends with one client's update in clear; in each test of ours the
member refuses by name before anything leaves, or what the attacker has is of no use.
"""

from __future__ import annotations

import base64
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.common import bytes_to_ndarray
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_separate
from tests.secagg.evil import (
    ACCOMPLICE,
    OTHER,
    VICTIM,
    EvilCoordinator,
    advertisement,
    answer,
    both_shares_of_one,
    replaced,
    victim_refuses,
)
from tests.secagg.federation import Federation, membership, signing_key

from sordino_platform.flower.secaggplus import Arrays, SecAggPlusPeer, SecAggPlusSettings, add_mask, pair_seed
from sordino_privacy.secagg import (
    ContextError,
    IdentityError,
    MalformedError,
    RevealError,
    RoundContext,
    SessionPhase,
    ThresholdError,
)
from sordino_privacy.secagg.masks import Mask, MaskStream, RingVector, apply
from sordino_privacy.secagg.roster import Roster
from sordino_privacy.secagg.survivors import Reveal

NODES = (1, 2, 3, 4, 5)
PREY = 1
SIZE = 400
UPDATE = np.random.default_rng(7).uniform(-1, 1, SIZE).astype(np.float32)


class FlowerFederation:
    """Five of Flower's clients up to the exchange of shares."""

    def __init__(self, settings: SecAggPlusSettings | None = None) -> None:
        self.settings = settings or SecAggPlusSettings(members=5, threshold=4)
        self.peers = {node: SecAggPlusPeer(node) for node in NODES}
        self.keys = {node: peer.setup(self.settings) for node, peer in self.peers.items()}
        self.sealed = {node: peer.share(self.keys) for node, peer in self.peers.items()}

    def upload(self, node: int, update: npt.NDArray[np.float32] = UPDATE) -> Arrays:
        sealed = {other: self.sealed[other][node] for other in NODES if other != node}
        examples = int(self.settings.max_weight)
        return [bytes_to_ndarray(data) for data in self.peers[node].upload(sealed, examples, update)]


def opened(
    masked: Arrays, self_seed: bytes, pair_seeds: Mapping[int, bytes], settings: SecAggPlusSettings
) -> npt.NDArray[Any]:
    """The prey's update in clear, from its one upload and its mask seeds (by the other node)."""
    shapes = [array.shape for array in masked]
    vector = masked[1] - pseudo_rand_gen(self_seed, settings.mod_range, shapes)[1]
    for node, seed in pair_seeds.items():
        mask = pseudo_rand_gen(seed, settings.mod_range, shapes)[1]
        vector = vector - mask if node < PREY else vector + mask
    scale = 2 * settings.clipping_range / settings.target_range
    return (vector % settings.mod_range) * scale - settings.clipping_range


def secrets_of_prey(shares: Iterable[tuple[int, bytes]]) -> bytes:
    return combine_shares([share for owner, share in shares if owner == PREY])


# ------------------------------------------------------------------------------------------------------ 28-bit seeds


def folded(seed: bytes) -> int:
    """What Flower's generator is seeded with."""
    fold = 0
    for at in range(0, len(seed), 4):
        fold ^= int.from_bytes(seed[at : at + 4], "little")
    return fold


def test_flowers_pairwise_mask_depends_on_at_most_28_bits_of_its_256_bit_key() -> None:
    """base64 text folded to 32 bits: the top bit of every byte is zero. Enumerating 2^28 seeds is a minute's work."""
    seeds = [base64.urlsafe_b64encode(os.urandom(32)) for _ in range(500)]
    reachable = 0
    for seed in seeds:
        reachable |= folded(seed)
    assert reachable.bit_count() <= 28
    flower = FlowerFederation()
    seed = pair_seed(flower.peers[1].state.sk1, flower.keys[2][0])
    mask = pseudo_rand_gen(seed, 1 << 32, [(SIZE,)])[0]
    enumerated = np.random.RandomState(folded(seed)).randint(0, (1 << 32) - 1, SIZE, dtype=np.int64)
    assert np.array_equal(mask, enumerated)


def test_a_flower_client_is_opened_by_whoever_has_found_the_folded_seeds_of_its_masks() -> None:
    flower = FlowerFederation()
    masked, prey = flower.upload(PREY), flower.peers[PREY].state
    # The attacker has the fold, which it can enumerate, and never the key.
    guessed = {
        node: folded(pair_seed(prey.sk1, flower.keys[node][0])).to_bytes(4, "little")
        for node in NODES
        if node != PREY
    }
    update = opened(masked, folded(prey.rd_seed).to_bytes(4, "little"), guessed, flower.settings)
    assert np.abs(update - UPDATE).max() < 1e-5


def test_ours_has_no_short_seed_keys_with_one_fold_give_unrelated_masks_and_every_bit_counts() -> None:
    key = bytes(range(32))
    twin = key[4:8] + key[:4] + key[8:]  # Flower's fold is the same
    assert folded(key) == folded(twin)
    drawn = []
    for chosen in (
        key,
        twin,
        *(bytes([*key[:at], key[at] ^ 1 << bit, *key[at + 1 :]]) for at in range(32) for bit in range(8)),
    ):
        vector = np.zeros(SIZE, np.uint32)
        apply(vector, [Mask(key=chosen, add=True)])
        drawn.append(vector)
    for number, other in enumerate(drawn[1:], 1):
        assert np.count_nonzero(drawn[0] == other) == 0, f"key {number} gives the same mask in places"
    # Two masks differ in half of their bits.
    distance = np.mean([np.bitwise_count(drawn[0] ^ other).mean() for other in drawn[1:]])
    assert 15.5 < distance < 16.5


# -------------------------------------------------------------------------------------------- both shares of one peer


def test_flowers_clients_hand_out_both_shares_of_one_peer_and_its_update_is_read() -> None:
    flower = FlowerFederation()
    masked = flower.upload(PREY)
    for node in NODES[1:]:
        flower.upload(node)
    said = [flower.peers[node].unmask(active=NODES, dead=[PREY]) for node in NODES[1:]]
    # Both lists name the prey: the share of its self-mask seed comes first, that of its private key last.
    self_seed = secrets_of_prey((owner, share) for one in said for owner, share in one[:5])
    private = secrets_of_prey((owner, share) for one in said for owner, share in one[5:])
    pairs = {node: pair_seed(private, flower.keys[node][0]) for node in NODES[1:]}
    assert np.abs(opened(masked, self_seed, pairs, flower.settings) - UPDATE).max() < 1e-5


def test_our_members_reveal_nothing_when_both_shares_of_one_peer_are_asked_for() -> None:
    victim_refuses(RevealError, "unmask", opening=both_shares_of_one)


def test_a_coordinator_with_the_accomplices_that_gamma_allows_never_holds_a_threshold_of_both_secrets() -> (
    None
):
    """The counting argument of the protocol, run: accomplices give both shares of everyone, honest members one."""
    federation = Federation(membership(5))
    openings, present = federation.until("unmask", {OTHER: "upload"})
    roster = federation.coordinator.roster
    holders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for owner in federation.members[ACCOMPLICE]._state.held:
        holders[owner, "b"].add(ACCOMPLICE)
        holders[owner, "s"].add(ACCOMPLICE)
    for name in present:
        said = answer(federation, "unmask", openings, name)
        reveal = Reveal.decode(said, federation.membership.member(name).public_key)
        for which, shares in (("b", reveal.self_shares), ("s", reveal.pair_shares)):
            for owner, _ in shares:
                holders[owner, which].add(name)
    enough = {key for key, names in holders.items() if len(names) >= roster.numbers.threshold}
    assert enough == {(name, "b") for name in present} | {(OTHER, "s")}


# ------------------------------------------------------------------------------ null masks by a server-chosen modulus


def test_a_flower_server_that_chooses_a_modulus_of_two_gets_updates_without_any_mask() -> None:
    """`randint(0, mod_range - 1)` of 2 is always 0, and a target range of 1 leaves one bit per coordinate: its sign."""
    settings = SecAggPlusSettings(
        members=5, threshold=4, clipping_range=0.1, target_range=1, mod_range=2, max_weight=1.0
    )
    flower = FlowerFederation(settings)
    signs = np.where(UPDATE < 0, np.float32(-0.1), np.float32(0.1))
    assert np.array_equal(flower.upload(PREY, signs)[1], (signs > 0).astype(np.int64))


def test_a_flower_server_averages_the_unmasked_bits_of_a_repeated_round_into_the_update() -> None:
    settings = SecAggPlusSettings(
        members=5, threshold=4, clipping_range=1.0, target_range=1, mod_range=2, max_weight=1.0
    )
    rounds = np.array([FlowerFederation(settings).upload(PREY)[1] for _ in range(60)])
    assert np.corrcoef(2 * rounds.mean(0) - 1, UPDATE)[0, 1] > 0.97


def test_our_ring_is_in_the_context_a_coordinator_cannot_choose_it() -> None:
    federation = Federation(membership(5))
    honest = federation.context.quantiser
    for other in (
        replace(honest, cohort_limit=4000),
        replace(honest, groups=tuple(replace(group, range=group.range * 1e6) for group in honest.groups)),
    ):
        member = federation.member(VICTIM)
        with pytest.raises(ContextError, match="quantiser"):
            member.propose(replace(federation.context, quantiser=other).encode())
        assert member.phase is SessionPhase.ABORTED
        with pytest.raises(MalformedError):
            RoundContext.decode(
                federation.context.encode() + b"\2"
            )  # there is no field to put a modulus into


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_no_mask_of_ours_is_null_in_either_ring(dtype: type[np.uint16] | type[np.uint32]) -> None:
    drawn: RingVector = np.zeros(1 << 16, dtype)
    MaskStream(os.urandom(32)).fill(drawn)
    assert abs(np.count_nonzero(drawn % 2) / len(drawn) - 0.5) < 0.02
    assert drawn.max() > np.iinfo(dtype).max * 0.99


# ---------------------------------------------------------------------------------------- a threshold from the server


def test_a_flower_server_that_sets_the_threshold_to_two_reads_any_client_with_two_accomplices() -> None:
    flower = FlowerFederation(SecAggPlusSettings(members=5, threshold=2))
    masked = flower.upload(PREY)
    accomplices = (4, 5)
    for node in accomplices:
        flower.upload(node)  # opens the shares that were sealed for it
    states = [flower.peers[node].state for node in accomplices]
    self_seed = combine_shares([state.rd_seed_share_dict[PREY] for state in states])
    private = combine_shares([state.sk1_share_dict[PREY] for state in states])
    pairs = {node: pair_seed(private, flower.keys[node][0]) for node in NODES[1:]}
    assert np.abs(opened(masked, self_seed, pairs, flower.settings) - UPDATE).max() < 1e-5


def test_our_members_compute_the_threshold_themselves_and_refuse_another() -> None:
    def lie(self: EvilCoordinator, roster: Roster) -> Roster:
        return replace(roster, numbers=replace(roster.numbers, threshold=2))

    victim_refuses(ThresholdError, "share", roster=lie)


# ------------------------------------------------------------------------------------------------------ unsigned keys


def test_a_flower_client_alone_among_sybils_of_the_server_is_read_by_it() -> None:
    """Keys are unsigned and nobody knows the members: the server plays all the others."""
    flower = FlowerFederation()  # only node 1 is real; nodes 2 to 5 are the server's
    masked = flower.upload(PREY)
    shares = []
    for node in NODES[1:]:
        key = flower.peers[node].state.ss2_dict[PREY]
        shares.append(share_keys_plaintext_separate(decrypt(key, flower.sealed[PREY][node]))[2:])
    self_seed = combine_shares([share for share, _ in shares])
    pairs = {node: pair_seed(flower.peers[node].state.sk1, flower.keys[PREY][0]) for node in NODES[1:]}
    assert np.abs(opened(masked, self_seed, pairs, flower.settings) - UPDATE).max() < 1e-5


def test_our_member_counts_only_keys_that_charter_identities_signed() -> None:
    def substitute(self: EvilCoordinator, roster: Roster) -> Roster:
        ours = [n for n in roster.names if n != VICTIM]
        return replaced(roster, *(advertisement(n, signing_key("the server's"), self.context) for n in ours))

    def sybils(self: EvilCoordinator, roster: Roster) -> Roster:
        more = (f"sybil-{n}" for n in range(4))
        return replaced(roster, *(advertisement(n, signing_key(n), self.context) for n in more))

    victim_refuses(IdentityError, "share", roster=substitute)
    victim_refuses(IdentityError, "share", roster=sybils)


# --------------------------------------------------------------------------------------------- a mask, once more


def test_flowers_mask_of_one_seed_is_the_same_in_every_round_and_ours_never_is() -> None:
    """Flower's mask is a function of the key alone; ours is salted with R, which holds round, attempt and nonces."""
    seed = base64.urlsafe_b64encode(bytes(range(32)))
    zeros: Arrays = [np.zeros(SIZE, np.int64)]
    assert np.array_equal(add_mask(zeros, seed, 1 << 32)[0], add_mask(zeros, seed, 1 << 32)[0])
    first, second = Federation(membership(5)), Federation(membership(5), attempt=1)
    uploads = []
    for federation in (first, second):
        deliveries, _ = federation.until("upload")
        uploads.append(answer(federation, "upload", deliveries)[-2000:])
    assert uploads[0] != uploads[1]
