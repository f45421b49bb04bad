"""Flower's own SecAgg+ (flwr 1.42), called as Flower calls it. Our benchmark compares with it, and tests attack it to
show what ours resists. Nothing in a federation imports this module.

    peer = SecAggPlusPeer(node=1)
    peer.setup(settings) -> public keys     peer.share(all keys) -> sealed shares by recipient
    peer.upload(sealed shares by sender, examples, update) -> masked arrays     peer.unmask(active, dead) -> shares
    added, unmasked                         what Flower's workflow does at the server

Flower's server part is inside a workflow class, between two calls of a grid. Its steps are repeated here line by line
with Flower's own functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

Arrays = list[npt.NDArray[Any]]
PublicKeys = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecAggPlusSettings:
    """What the server tells each client. The defaults are those of Flower's `SecAggPlusWorkflow`."""

    members: int
    threshold: int
    clipping_range: float = 8.0
    target_range: int = 1 << 22
    mod_range: int = 1 << 32
    max_weight: float = 1000.0

    def with_modulus(self, mod_range: int) -> SecAggPlusSettings:
        """The same with another modulus: the server's choice, and the client does not question it."""
        return replace(self, mod_range=mod_range)


class SecAggPlusPeer:
    """One Flower client's SecAgg+ state, driven through the functions of Flower's client mod."""

    def __init__(self, node: int) -> None:
        self.state = SecAggPlusState()
        self.state.nid = node

    def setup(self, settings: SecAggPlusSettings) -> PublicKeys:
        """Stage 0: (pk1, pk2), unsigned."""
        said = {
            Key.SAMPLE_NUMBER: settings.members,
            Key.SHARE_NUMBER: settings.members,
            Key.THRESHOLD: settings.threshold,
            Key.CLIPPING_RANGE: settings.clipping_range,
            Key.TARGET_RANGE: settings.target_range,
            Key.MOD_RANGE: settings.mod_range,
            Key.MAX_WEIGHT: settings.max_weight,
        }
        keys = _setup(self.state, ConfigRecord(cast(Any, said)))
        return cast(bytes, keys[Key.PUBLIC_KEY_1]), cast(bytes, keys[Key.PUBLIC_KEY_2])

    def share(self, keys: Mapping[int, PublicKeys]) -> dict[int, bytes]:
        """Stage 1: sealed shares, by recipient."""
        said = _share_keys(self.state, ConfigRecord({str(node): list(pair) for node, pair in keys.items()}))
        recipients = cast(list[int], said[Key.DESTINATION_LIST])
        return dict(zip(recipients, cast(list[bytes], said[Key.CIPHERTEXT_LIST]), strict=True))

    def upload(
        self, sealed: Mapping[int, bytes], examples: int, update: npt.NDArray[np.float32]
    ) -> list[bytes]:
        """Stage 2: the masked arrays as bytes."""
        said = {Key.CIPHERTEXT_LIST: list(sealed.values()), Key.SOURCE_LIST: list(sealed)}
        parameters = ndarrays_to_parameters([update])
        sent = _collect_masked_vectors(self.state, ConfigRecord(cast(Any, said)), examples, parameters)
        return cast(list[bytes], sent[Key.MASKED_PARAMETERS])

    def unmask(self, active: Sequence[int], dead: Sequence[int]) -> list[tuple[int, bytes]]:
        """Stage 3: (owner, share) for every node that the server names as active or as dead."""
        said = {Key.ACTIVE_NODE_ID_LIST: list(active), Key.DEAD_NODE_ID_LIST: list(dead)}
        sent = _unmask(self.state, ConfigRecord(cast(Any, said)))
        owners, shares = cast(list[int], sent[Key.NODE_ID_LIST]), cast(list[bytes], sent[Key.SHARE_LIST])
        return list(zip(owners, shares, strict=True))


def add_mask(vector: Arrays, seed: bytes, mod_range: int) -> Arrays:
    """The masking work of a Flower client per neighbour, without the key agreement."""
    return parameters_addition(vector, pseudo_rand_gen(seed, mod_range, get_parameters_shape(vector)))


def pair_seed(secret: bytes, public: bytes) -> bytes:
    """The seed of a pairwise mask, from one client's pk1 secret and the other's pk1."""
    return generate_shared_key(bytes_to_private_key(secret), bytes_to_public_key(public))


def added(uploads: Sequence[list[bytes]], settings: SecAggPlusSettings) -> Arrays:
    """The server's sum of the masked uploads."""
    total: Arrays | None = None
    for upload in uploads:
        arrays = [bytes_to_ndarray(data) for data in upload]
        total = arrays if total is None else parameters_addition(total, arrays)
    assert total is not None
    return parameters_mod(total, settings.mod_range)


def unmasked(
    masked: Arrays,
    shares: Mapping[int, list[bytes]],
    active: Sequence[int],
    keys: Mapping[int, PublicKeys],
    settings: SecAggPlusSettings,
) -> npt.NDArray[np.float64]:
    """The server's weighted mean, from the shares that the clients revealed, by owner.

    For a complete graph: as in Flower, for a node that dropped out, the masks with *every* other node are removed.
    """
    for node, collected in shares.items():
        secret = combine_shares(collected)
        shapes = get_parameters_shape(masked)
        if node in active:
            masked = parameters_subtraction(masked, pseudo_rand_gen(secret, settings.mod_range, shapes))
            continue
        for other in keys:
            if other == node:
                continue
            mask = pseudo_rand_gen(pair_seed(secret, keys[other][0]), settings.mod_range, shapes)
            masked = (parameters_addition if node > other else parameters_subtraction)(masked, mask)
    ratio, arrays = factor_extract(parameters_mod(masked, settings.mod_range))
    mean = dequantize(cast(Any, arrays), settings.clipping_range, settings.target_range)[0]
    mean += -(len(active) - 1) * settings.clipping_range
    mean *= settings.target_range / ratio
    return mean
