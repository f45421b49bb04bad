"""The manifest of a release: what the coordinator signs, and the rules by which one release may follow another.

Releases form a chain. Release 0 is the public base; each later one names the hash of the one before. The rules, which
`require_next` enforces for members and for the coordinator's own store alike:

* it is signed by the coordinator of the charter that it names, and the verifier holds that charter;
* it has the next number, and the hash of the present head as parent: no gap, no fork, no reordering;
* the epoch never goes back;
* the model is the charter's model, and the vector has the model's length;
* a release of a round names the round's members: all are in the charter, and there are at least as many as the
  charter's honest floor;
* a rollback is a *new* release that restores an older one's vector; nothing is ever removed from the chain;
* there is no fourth kind: every release is the base, a rollback, or made by a round;
* a round either trains or counts. One that counts does not change the model and the optimiser's state, and names a new
  memory. One that trains keeps the memory in force. A rollback brings back the older release's memory.

These rules do not show that a manifest's statements are true: sordino_platform.following checks how its vector was
made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sordino_platform.architecture import MAX_PARAMETERS, trainable_shapes
from sordino_platform.canonical import (
    Digest,
    Document,
    Moment,
    Name,
    Signature,
    decode,
    document_digest,
    encode,
    require_signature,
    sign,
)
from sordino_platform.charter import Charter, HuggingFaceTerms, ModelTerms, TrainingPolicy
from sordino_platform.release.optimiser import ServerOptimiser
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg.encoding import MAX_MEMBERS
from sordino_privacy.secagg.refusals import PolicyError
from sordino_privacy.signing import Signer

LABEL = "sordino-release/1"
MAX_MANIFEST_BYTES = 1 << 20
MAX_NUMBER = 999_999
NO_PARENT = bytes(32)


class MemoryMark(Document):
    """The shared memory in force after a release: the hash of its file, and the release whose round counted it."""

    sha256: Digest
    release: int = Field(ge=1, le=MAX_NUMBER)


class Manifest(Document):
    """One release. `heldout_loss` is in nats per token on public held-out code; `round` is None when no round made it
    (the base, a rollback). `moments` are the hashes of the files of the optimiser's state after this release; without
    them the optimiser starts again from zero. A release with a shared memory has format version 2, which older versions
    of the software refuse."""

    version: Literal["sordino-release/1", "sordino-release/2"] = "sordino-release/1"
    federation: Name
    run: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")]
    number: int = Field(ge=0, le=MAX_NUMBER)
    parent: Digest
    charter_hash: Digest
    model: ModelTerms | HuggingFaceTerms
    dimension: int = Field(ge=1, le=MAX_PARAMETERS)
    weights_sha256: Digest
    vector_hash: Digest
    round: int | None = Field(default=None, ge=0, lt=1 << 32)
    members: tuple[Name, ...] = Field(default=(), max_length=MAX_MEMBERS)
    heldout_loss: float | None = Field(default=None, ge=0, le=1000)
    transcript_head: Digest | None = None
    optimiser: ServerOptimiser = ServerOptimiser()
    moments: tuple[Digest, ...] = Field(default=(), max_length=2)
    restores: int | None = Field(default=None, ge=0, le=MAX_NUMBER)
    shared_memory: MemoryMark | None = None
    made_at: Moment

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        # A release without a memory keeps the bytes, and so the hash, that it had before the field existed.
        data: dict[str, object] = plain(self)
        return {name: value for name, value in data.items() if name != "shared_memory" or value is not None}

    @model_validator(mode="after")
    def _versioned(self) -> Manifest:
        if (self.version == "sordino-release/1") != (self.shared_memory is None):
            raise ValueError("a shared memory stands in releases of version 2, and in those only")
        return self

    @property
    def counted(self) -> bool:
        """Whether a round of this release counted the memory, instead of training the model."""
        return self.shared_memory is not None and self.shared_memory.release == self.number

    def hash(self) -> bytes:
        """32 bytes: the parent of the next release."""
        return document_digest(LABEL, encode(self))


class SignedManifest(Document):
    """A manifest and the coordinator's signature over it."""

    manifest: Manifest
    signature: Signature

    @classmethod
    def sign(cls, manifest: Manifest, key: Signer) -> SignedManifest:
        """Signs with the coordinator's identity key."""
        return cls(manifest=manifest, signature=sign(key, LABEL, encode(manifest)))

    @classmethod
    def parse(cls, data: bytes, *, what: str = "the release manifest") -> SignedManifest:
        """A manifest from untrusted bytes: well-formed, but not yet verified (see `require_next`)."""
        return decode(cls, data, limit=MAX_MANIFEST_BYTES, what=what)


class Charters(Protocol):
    """Finds a release's charter: in a store on disk, or among epochs that were verified but are not yet stored."""

    def by_hash(self, charter_hash: bytes) -> Charter:
        """Raises ConfigurationError when it is not known."""
        ...


def require_next(chain: Sequence[SignedManifest], offered: SignedManifest, charters: Charters) -> None:
    """Raises ConfigurationError, naming the broken rule, unless `offered` may follow `chain` (empty: release 0)."""
    manifest = offered.manifest
    what = f"release {manifest.number}"
    charter = require_signed(offered, charters)
    if manifest.number != len(chain):
        raise ConfigurationError(
            f"{what} was offered where release {len(chain)} is next", hint="fetch the releases in their order"
        )
    if manifest.parent != (chain[-1].manifest.hash() if chain else NO_PARENT):
        raise ConfigurationError(
            f"{what} does not follow the release that is held",
            hint="the coordinator shows different histories: stop, and tell the other members",
        )
    if chain and charter.epoch < charters.by_hash(chain[-1].manifest.charter_hash).epoch:
        raise ConfigurationError(f"{what} went back to epoch {charter.epoch} of the charter")
    if manifest.model != charter.model:
        raise ConfigurationError(f"{what} holds another model than the charter's")
    if manifest.dimension != dimension_of(charter):
        raise ConfigurationError(f"{what} has a vector of another length than the charter's model")
    _require_origin(manifest, charter, chain, what)


def require_signed(offered: SignedManifest, charters: Charters) -> Charter:
    """The charter that a manifest names, after a check that its coordinator signed the manifest. Earlier releases are
    not read. Raises ConfigurationError."""
    manifest = offered.manifest
    what = f"release {manifest.number}"
    charter = charters.by_hash(manifest.charter_hash)
    if manifest.federation != charter.federation:
        raise ConfigurationError(f"{what} is of another federation, {manifest.federation}")
    key = charter.coordinator.identity_key
    require_signature(key, LABEL, encode(manifest), offered.signature, what=what)
    return charter


def dimension_of(charter: Charter) -> int:
    """The length of the federation's vector."""
    return sum(math.prod(shape) for shape in trainable_shapes(charter.model.config()).values())


def _require_origin(manifest: Manifest, charter: Charter, chain: Sequence[SignedManifest], what: str) -> None:
    members = manifest.members
    if list(members) != sorted(set(members)):
        raise ConfigurationError(f"{what} does not list its members sorted and once each")
    if manifest.round is None:
        if members or manifest.moments:
            raise ConfigurationError(f"{what} names members or moments but no round")
        if chain and manifest.restores is None:
            raise ConfigurationError(f"{what} is of no round, restores no release and is not the base")
    else:
        if len(members) < (fewest := charter.smallest_sum()):
            raise ConfigurationError(f"{what} sums {len(members)} members, fewer than the floor of {fewest}")
        known = {member.name for member in charter.members}
        strangers = [name for name in members if name not in known]
        if strangers:
            raise ConfigurationError(f"{what} names {strangers[0]!r}, who is not a member")
        if not chain:
            raise ConfigurationError(f"{what} is the base, and no round makes it")
        if charter.training is not None:  # version 1 of the charter did not bound the optimiser
            _require_optimiser(manifest, charter.training, what)
        if manifest.counted:
            _require_count(manifest, charter, chain[-1].manifest, what)
        elif len(manifest.moments) != manifest.optimiser.moments:
            raise ConfigurationError(f"{what} does not name the moments of its optimiser")
    if manifest.restores is None:
        in_force = chain[-1].manifest.shared_memory if chain else None
        if not manifest.counted and manifest.shared_memory != in_force:
            raise ConfigurationError(f"{what} names another shared memory than the one in force")
        return
    if manifest.round is not None or manifest.restores >= len(chain):
        raise ConfigurationError(f"{what} cannot restore release {manifest.restores}")
    restored = chain[manifest.restores].manifest
    if (manifest.vector_hash, manifest.weights_sha256, manifest.model, manifest.shared_memory) != (
        restored.vector_hash,
        restored.weights_sha256,
        restored.model,
        restored.shared_memory,
    ):
        raise ConfigurationError(f"{what} says that it restores release {manifest.restores}, and does not")


def _require_count(manifest: Manifest, charter: Charter, before: Manifest, what: str) -> None:
    if charter.shared_memory is None:
        raise ConfigurationError(f"{what} counts phrases, which its charter does not allow")
    kept = ("vector_hash", "weights_sha256", "optimiser", "moments")
    if any(getattr(manifest, name) != getattr(before, name) for name in kept):
        raise ConfigurationError(f"{what} counts phrases, and changes the model or the optimiser's state")


def _require_optimiser(manifest: Manifest, training: TrainingPolicy, what: str) -> None:
    step = manifest.optimiser
    try:
        training.require_server_step(
            learning_rate=step.learning_rate, beta1=step.beta1, beta2=step.beta2, tau=step.tau
        )
    except PolicyError as error:
        raise ConfigurationError(f"{what}: {error.message}") from None
