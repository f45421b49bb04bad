"""Real updates to ring integers and back: the parameters that all parties share, and the extra limbs of a vector.

A member's update x (float32) is multiplied by its weight w <= 1, scaled so that the group's `range` becomes `levels`,
clipped, and rounded (`rounding`). Sums of up to `cohort_limit` members cannot wrap: cohort_limit * levels <
2^(ring_bits - 1). Ranges come from configuration, never from the data.

After the `dimension` coordinates come the extra limbs: sum of weights, saturated coordinates, weighted loss, and the
declared size bucket. Each is split into limbs so small that a sum of `cohort_limit` of them cannot wrap either.

| edge case | what happens |
| --- | --- |
| NaN or infinity in the vector, the weight or the loss | NonFiniteError; nothing is produced |
| a coordinate beyond its group's range | clipped to +-levels and counted in `saturated` |
| weight outside (0, 1], loss or bucket outside their bounds | UsageError |
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sordino_privacy.errors import ConfigurationError, UsageError
from sordino_privacy.secagg.encoding import (
    KEY_BYTES,
    MAX_MEMBERS,
    MessageReader,
    Writer,
    digest,
)
from sordino_privacy.secagg.masks import MaskStream, RingVector
from sordino_privacy.secagg.quantised import QUANTISED_KIND, MaskedStatistics, Quantised
from sordino_privacy.secagg.refusals import MalformedError, NonFiniteError
from sordino_privacy.secagg.rounding import (
    MAX_DIMENSION,
    FloatVector,
    Group,
    IntegerVector,
    round_into,
    scaled_back,
    signed_view,
)
from sordino_privacy.shared_noise.release import levels as shared_levels

Entropy = Callable[[int], bytes]

SMALL_RING_COHORT = 64  # up to here 10 bits or more of each coordinate fit into uint16
MAX_LEVELS = (1 << 19) - 1  # beyond 20 bits a float32 update has nothing more to say
MAX_GROUPS = 4096
FIXED_POINT = 1 << 16
LOSS_LIMIT = 256.0
EXAMPLES_LIMIT = 1 << 40
# (name, bits of one member's largest value), in the order of the limbs.
STATISTICS = (("weight", 17), ("saturated", 31), ("loss", 24), ("examples", 41))


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The opened sum: signed integers per coordinate, and the decoded extra limbs.

    `weight` is the sum of weights, `loss` the sum of weight times loss, `examples` the sum of the declared buckets,
    `saturated` the number of clipped coordinates over all members.
    """

    quantiser: Quantiser
    integers: IntegerVector
    weight: float
    saturated: int
    loss: float
    examples: int

    def total(self) -> FloatVector:
        """The weighted sum of the updates, float32, shape `(dimension,)`."""
        return self.quantiser.scaled(self.integers, 1.0)

    def mean(self) -> FloatVector:
        """The weighted mean of the updates, float32, shape `(dimension,)`."""
        return self.quantiser.scaled(self.integers, 1.0 / self.weight)

    @property
    def mean_loss(self) -> float:
        return self.loss / self.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiser:
    """The mapping between float32 updates and ring vectors. All parties of a round use the same one.

    `cohort_limit` is the largest number of members a sum may have; it fixes the ring (uint16 up to 64) and the levels.
    `shares` is 1 if an update already holds its whole noise. Otherwise the update comes as integers with one of
    `shares` shares of the noise (sordino_privacy.shared_noise), all groups have the same range, and the ring has 32
    bits. Raises ConfigurationError for groups or limits that no ring has room for.
    """

    groups: tuple[Group, ...]
    cohort_limit: int
    shares: int = 1

    def __post_init__(self) -> None:
        if not 1 <= len(self.groups) <= MAX_GROUPS:
            raise ConfigurationError(f"a quantiser has 1 to {MAX_GROUPS} tensor groups")
        if not 1 <= self.cohort_limit <= MAX_MEMBERS:
            raise ConfigurationError(f"the cohort limit must lie between 1 and {MAX_MEMBERS}")
        if self.dimension > MAX_DIMENSION:
            raise ConfigurationError("an update may have at most 2^30 coordinates")
        if not 1 <= self.shares <= self.cohort_limit:
            raise ConfigurationError("noise has from one share to as many as a sum has members")
        if self.shares > 1 and len({group.range for group in self.groups}) > 1:
            raise ConfigurationError("under noise in shares all tensor groups have one range")

    @property
    def dimension(self) -> int:
        """Coordinates of the update, without the extra limbs."""
        return sum(group.length for group in self.groups)

    @property
    def ring_bits(self) -> int:
        return 16 if self.cohort_limit <= SMALL_RING_COHORT and self.shares == 1 else 32

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The ring's elements: little-endian, as masks are read and uploads are written."""
        return np.dtype("<u2") if self.ring_bits == 16 else np.dtype("<u4")

    @property
    def carries(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The type that can count how often a sum of `cohort_limit` ring elements wraps around the ring."""
        return np.dtype("u1") if self.cohort_limit <= 256 else np.dtype("<u2")

    @property
    def levels(self) -> int:
        """L: the largest magnitude of one member's quantised coordinate, before a share of integer noise is added."""
        if self.shares > 1:
            return shared_levels(self.cohort_limit)
        return min(((1 << (self.ring_bits - 1)) - 1) // self.cohort_limit, MAX_LEVELS)

    @property
    def fraction_bits(self) -> int:
        """Bits of the rounding dither: as many as fit together with the levels into a signed 32-bit product."""
        return min(16, 30 - self.levels.bit_length())

    @property
    def limb_bits(self) -> int:
        """Bits of one limb of a statistic: `cohort_limit` of them add up below 2^ring_bits."""
        return self.ring_bits - self.cohort_limit.bit_length()

    @property
    def limbs(self) -> tuple[int, ...]:
        """The number of limbs of each statistic, in the order of STATISTICS."""
        return tuple(-(-bits // self.limb_bits) for _, bits in STATISTICS)

    @property
    def length(self) -> int:
        """Elements of a ring vector: coordinates and limbs."""
        return self.dimension + sum(self.limbs)

    def write(self, writer: Writer) -> None:
        """The canonical form inside a proposed context; ranges are IEEE-754 binary64, big-endian."""
        writer.u16(self.cohort_limit).u16(self.shares).u16(len(self.groups))
        for group in self.groups:
            writer.text(group.name).u32(group.length).raw(struct.pack(">d", group.range))

    @classmethod
    def read(cls, reader: MessageReader) -> Quantiser:
        """Raises MalformedError."""
        cohort_limit, shares, count = reader.u16(), reader.u16(), reader.count(limit=MAX_GROUPS)
        try:
            groups = tuple(
                Group(name=reader.text(), length=reader.u32(), range=struct.unpack(">d", reader.raw(8))[0])
                for _ in range(count)
            )
            return cls(groups=groups, cohort_limit=cohort_limit, shares=shares)
        except ConfigurationError as error:
            raise MalformedError(f"the quantiser is not valid: {error}") from error

    def digest(self) -> bytes:
        writer = Writer(QUANTISED_KIND)
        self.write(writer)
        return digest("quantiser", writer.done())

    def quantise(
        self, vector: FloatVector, weight: float, statistics: MaskedStatistics, entropy: Entropy
    ) -> Quantised:
        """The update as ring integers, ready to be masked.

        `vector`: float32, shape `(dimension,)`. `weight` in (0, 1] is rounded to 1/65536 first, so that the mean is
        divided by exactly the weights that multiplied. Raises NonFiniteError, UsageError.
        """
        if self.shares > 1:
            raise UsageError("under noise in shares an update comes with its share: use `embed`")
        if vector.dtype != np.float32 or vector.shape != (self.dimension,):
            raise UsageError(f"an update must be a float32 vector of {self.dimension} coordinates")
        if not (math.isfinite(weight) and math.isfinite(statistics.loss)):
            raise NonFiniteError("the weight or the loss is not finite")
        fixed_weight = round(weight * FIXED_POINT)
        if not 1 <= fixed_weight <= FIXED_POINT:
            raise UsageError("a weight must lie in (0, 1]")
        if not (0 <= statistics.loss < LOSS_LIMIT and 0 <= statistics.examples <= EXAMPLES_LIMIT):
            raise UsageError("the loss must lie in [0, 256) and the example bucket in [0, 2^40]")
        key = entropy(KEY_BYTES)
        out = np.empty(self.length, self.dtype)
        scale = fixed_weight / FIXED_POINT
        saturated = round_into(
            out, vector, self.groups, scale, self.levels, self.fraction_bits, MaskStream(key)
        )
        loss = round(fixed_weight * statistics.loss)
        return self._finished(out, (fixed_weight, saturated, loss, statistics.examples), key)

    def embed(self, noised: RingVector, examples: int, entropy: Entropy) -> Quantised:
        """An update that already is integers, with its share of the noise in them, made ready to be masked.

        `noised`: dtype `dtype`, shape `(dimension,)`. Every member has weight 1, because every share of the noise has.
        The number of saturated coordinates is not sent, because it was counted before the noise was added. Raises
        UsageError.
        """
        if self.shares == 1:
            raise UsageError("only under noise in shares does an update come as integers")
        if noised.dtype != self.dtype or noised.shape != (self.dimension,):
            raise UsageError(f"an update must be {self.dimension} ring elements of {self.ring_bits} bits")
        if not 0 <= examples <= EXAMPLES_LIMIT:
            raise UsageError("the example bucket must lie in [0, 2^40]")
        out = np.empty(self.length, self.dtype)
        out[: self.dimension] = noised
        return self._finished(out, (FIXED_POINT, 0, 0, examples), entropy(KEY_BYTES))

    def _finished(self, out: RingVector, values: tuple[int, int, int, int], key: bytes) -> Quantised:
        """Writes the statistics into their limbs, and derives the identity of the draw from its key."""
        mask, at = (1 << self.limb_bits) - 1, self.dimension
        for value, count in zip(values, self.limbs, strict=True):
            for index in range(count):
                out[at + index] = value >> (index * self.limb_bits) & mask
            at += count
        out.flags.writeable = False
        # The key is fresh entropy, so its hash identifies this draw uniquely and reveals nothing about the update.
        return Quantised(quantiser_hash=self.digest(), identity=digest("update", key), vector=out)

    def scaled(self, integers: IntegerVector, factor: float) -> FloatVector:
        """Integers, shape `(dimension,)`, back to units of the update (float32), times `factor`."""
        return scaled_back(integers, self.groups, self.levels, factor)

    def decode(self, total: RingVector) -> Totals:
        """The opened ring sum as signed integers and statistics. `total`: dtype `dtype`, shape `(length,)`.
        Raises UsageError for any other."""
        if total.dtype != self.dtype or total.shape != (self.length,):
            raise UsageError(f"a ring sum must have {self.length} elements of {self.ring_bits} bits")
        values, at = [], self.dimension
        for count in self.limbs:
            values.append(sum(int(total[at + index]) << (index * self.limb_bits) for index in range(count)))
            at += count
        weight, saturated, loss, examples = values
        integers = signed_view(total[: self.dimension])
        return Totals(
            quantiser=self,
            integers=integers,
            weight=weight / FIXED_POINT,
            saturated=saturated,
            loss=loss / FIXED_POINT,
            examples=examples,
        )
