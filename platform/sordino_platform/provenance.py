"""The evidence that is sent with a release, so that every receiver can check how it was made, whatever it held before.

There are exactly three kinds of release. The founding one follows from the charter and the installed base. A rollback
brings back a model that was released before. Every other one is the step of one round, and comes with its evidence: the
record that the round's members signed, the plan, the opened sum with the protocol's evidence, and the state of the
server optimiser before.

A shared memory is counted by its own round, and proven in the same way: with the record, the plan and the sum of that
round. It is sent with the newest release to every receiver that lacks it.

A receiver that lacks more than one release needs only the evidence of the newest. The members of a round sign the model
that they began with, and each of them had verified it. So a record with a quorum of signatures vouches for that model,
and everything before it may be pruned. `following.follow` holds all the checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sordino_platform.architecture import Vector
from sordino_platform.flower.phases import Fields, Scalar
from sordino_platform.flower.phases import Vector as Wire
from sordino_platform.plans import Plan, parse_plan
from sordino_platform.release.optimiser import MOST_MOMENTS
from sordino_privacy.errors import LinkError
from sordino_privacy.secagg import SILENT_LIMIT, Record, RoundContext

Ring = npt.NDArray[np.unsignedinteger[Any]]
UPLOAD = "upload."
COUNTED = "counted."


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSum:
    """How a round made a release.

    The members' signed `record`, their `plan`, the opened ring `sum`, and the server optimiser's `moments` before the
    step. Three fields prove that the sum is the survivors': the protocol's `evidence` message, the `carries` of the
    masked sum, and the masked `uploads` of survivors that signed no sketch, by name.
    """

    record: bytes
    plan: Plan
    sum: Ring = field(repr=False)
    carries: Ring = field(repr=False)
    evidence: bytes = field(repr=False)
    uploads: Mapping[str, bytes | memoryview] = field(repr=False)
    moments: tuple[Vector, ...] = field(default=(), repr=False)

    def parts(self, prefix: str) -> tuple[dict[str, Scalar], dict[str, Wire]]:
        """As the fields and vectors of a message, each name after `prefix`."""
        fields: dict[str, Scalar] = {
            f"{prefix}record": self.record,
            f"{prefix}evidence": self.evidence,
            f"{prefix}round_plan": self.plan.canonical(),
            f"{prefix}silent": ",".join(self.uploads),
        }
        vectors: dict[str, Wire] = {f"{prefix}sum": self.sum, f"{prefix}carries": self.carries}
        vectors |= {f"{prefix}moment{index}": moment for index, moment in enumerate(self.moments)}
        vectors |= {
            f"{prefix}{UPLOAD}{name}": np.frombuffer(upload, np.uint8)
            for name, upload in self.uploads.items()
        }
        return fields, vectors

    @classmethod
    def parse(cls, fields: Fields, prefix: str) -> OpenedSum:
        """Reads it from a message that has the field `prefix` + `record`. Raises LinkError, or what the parsers of its
        parts raise."""
        record = fields.blob(f"{prefix}record")
        plan = parse_plan(fields.blob(f"{prefix}round_plan"))
        # The ring's width is the one that the round's members signed.
        quantiser = RoundContext.decode(Record.decode(record).context).quantiser
        silent = [name for name in fields.text(f"{prefix}silent").split(",") if name]
        if len(silent) > SILENT_LIMIT:
            raise LinkError(f"the coordinator names {len(silent)} silent survivors, more than a round has")
        return cls(
            record=record,
            plan=plan,
            sum=fields.vector(f"{prefix}sum", quantiser.dtype.type),
            carries=fields.vector(f"{prefix}carries", quantiser.carries.type),
            evidence=fields.blob(f"{prefix}evidence"),
            uploads={name: fields.raw(f"{prefix}{UPLOAD}{name}") for name in silent},
            moments=tuple(
                fields.vector(f"{prefix}moment{index}", np.float32)
                for index in range(MOST_MOMENTS)
                if f"{prefix}moment{index}" in fields
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The signed `manifests` that the receiver lacks, oldest first, and how the newest was made.

    opened    for a release that a round made
    model     the vector that the release follows from or restores, for a receiver that does not hold it
    voucher   beside the `model` of a rollback: the record of a round that began with it
    counted   how the shared memory in force was counted, where the newest release did not count it
    """

    manifests: tuple[bytes, ...]
    opened: OpenedSum | None = None
    model: Vector | None = field(default=None, repr=False)
    voucher: bytes = b""
    counted: OpenedSum | None = None

    def parts(self) -> tuple[dict[str, Scalar], dict[str, Wire]]:
        """As the fields and vectors of a message."""
        fields: dict[str, Scalar] = {"manifests": list(self.manifests)}
        vectors: dict[str, Wire] = {}
        if self.model is not None:
            vectors["model"] = self.model
        if self.voucher:
            fields["voucher"] = self.voucher
        for shown, prefix in ((self.opened, ""), (self.counted, COUNTED)):
            if shown is not None:
                more_fields, more_vectors = shown.parts(prefix)
                fields, vectors = fields | more_fields, vectors | more_vectors
        return fields, vectors

    @classmethod
    def parse(cls, fields: Fields) -> Provenance:
        """Reads it from a message that has a field `manifests`. Raises LinkError, or what the parsers of its parts
        raise."""
        manifests = tuple(fields.blobs("manifests"))
        if not manifests:
            raise LinkError("the coordinator's message names no release")
        model = fields.vector("model", np.float32) if "model" in fields else None
        voucher = fields.blob("voucher") if "voucher" in fields else b""
        opened = OpenedSum.parse(fields, "") if "record" in fields else None
        counted = OpenedSum.parse(fields, COUNTED) if f"{COUNTED}record" in fields else None
        return cls(manifests=manifests, opened=opened, model=model, voucher=voucher, counted=counted)


def packed(
    provenance: Provenance | None, fields: Mapping[str, Scalar]
) -> tuple[dict[str, Scalar], dict[str, Wire]]:
    """`fields`, and the provenance if there is any."""
    added, vectors = provenance.parts() if provenance is not None else ({}, {})
    return {**fields, **added}, vectors
