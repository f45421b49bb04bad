"""Decides whether a release may be taken over, only from what comes with it. Pure: nothing is stored here.

    followed = follow(provenance, held)        # raises, or gives the newest release's vector, checked
    for signed in followed.manifests: ...      # then, and only then, somebody stores it

Of each manifest: the signature and its place in the chain. Of the newest release, how its vector came about:

* the founding release is the model that is derived here;
* a rollback's vector is held here, or a quorum of members vouches for it;
* a round's vector is the step that its sum makes, from a vector that is held here or that the round's own members vouch
  for. The record must belong to exactly that round, epoch, model, plan and set of members. The mean and the step must
  not be longer than honest members can make them. And the arithmetic is repeated, up to the optimiser's state after it.

* the sum is the one that the round's survivors uploaded, by the digests that they signed after it was fixed.

A shared memory is made here from the sum of its own round, by the same checks. When nobody shows how the memory in
force was counted, the release is accepted without it: a memory that was not checked is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sordino_platform.architecture import Parameters, Vector, flatten
from sordino_platform.proposal import (
    quantiser_for,
    require_honest_lengths,
    require_honest_mean,
)
from sordino_platform.provenance import OpenedSum, Provenance
from sordino_platform.release.manifest import Charters, Manifest, SignedManifest, require_next
from sordino_platform.release.steps import next_model, require_vector
from sordino_platform.release.weights import file_sha256, vector_hash
from sordino_platform.round_limits import RoundLimits
from sordino_privacy.counts import CountPlan, SharedMemory
from sordino_privacy.errors import ConfigurationError, StorageError
from sordino_privacy.secagg import (
    GENESIS,
    ModelError,
    NormError,
    Record,
    RoundContext,
    Totals,
    VerifiedRecord,
    euclidean_norm,
    sum_digest,
    transcript_head,
    verify_record,
)

THREADS = 2
ROUNDING = 1 + 1e-5
"""The step is computed in float32, so its norm may exceed the exact one by this much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What the receiver has: its chain, the charters, the founding parameters that it derives, and its vectors.

    `vector` gives the vector with a hash, or None. `remembers` says whether the shared memory with a hash is held.
    `agrees` is called with each round's record and raises when this party signed another set of survivors in that
    round.
    """

    chain: Sequence[SignedManifest]
    charters: Charters
    parameters: Parameters = field(repr=False)
    vector: Callable[[bytes], Vector | None]
    remembers: Callable[[bytes], bool] = lambda _: False
    agrees: Callable[[VerifiedRecord], None] = lambda _: None

    def founding(self, manifest: Manifest) -> Vector:
        """The vector that a federation with this manifest's model starts from."""
        return flatten(manifest.model.config(), self.parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Releases that may be kept: the manifests of all, oldest first, and the vector of the newest. `memory` is the
    shared memory in force, if it was shown and not held before."""

    manifests: tuple[SignedManifest, ...]
    vector: Vector = field(repr=False)
    memory: SharedMemory | None = field(default=None, repr=False)

    @property
    def newest(self) -> Manifest:
        return self.manifests[-1].manifest


def follow(provenance: Provenance, held: Holdings) -> Followed:
    """See the module. Raises ModelError when a vector does not follow, ConfigurationError for a chain that breaks a
    rule, and what the checks of a record raise."""
    chain = list(held.chain)
    named = [SignedManifest.parse(data) for data in provenance.manifests]
    for signed in named:
        number = signed.manifest.number
        if number >= len(chain):
            require_next(chain, signed, held.charters)
            chain.append(signed)
        elif chain[number] != signed:
            raise ModelError(
                f"there are two different releases {number}",
                hint="the coordinator shows different histories: stop, and tell the other members",
            )
    newest = named[-1].manifest
    if newest.number != len(chain) - 1:
        raise ModelError("the coordinator's newest release is older than the one that is held here")
    memory = None
    if newest.number == 0:
        vector = _founding(provenance, newest, held)
    elif newest.round is None:
        vector = _restored(provenance, newest, held)
    elif newest.counted:
        vector, memory = _counted(provenance, newest, chain[newest.number - 1].manifest, held)
    else:
        vector = _stepped(provenance, newest, chain[newest.number - 1].manifest, held)
    if memory is None:
        memory = _memory_in_force(provenance, newest, chain, held)
    try:
        require_vector(newest, vector)
    except (ConfigurationError, StorageError) as error:
        raise ModelError(error.message, hint=error.hint) from error
    return Followed(manifests=tuple(named), vector=vector, memory=memory)


def require_step(
    record: VerifiedRecord,
    shown: OpenedSum,
    *,
    before: Manifest,
    model: Vector,
    newest: Manifest,
    held: Holdings,
) -> Vector:
    """The model that a round's opening leads to from `model`, the vector of the release `before`. Raises ModelError,
    PolicyError."""
    limits = _require_facts(record, shown, before=before, newest=newest, held=held)
    what = f"release {newest.number}"
    if isinstance(shown.plan, CountPlan):
        raise ModelError(f"{what} trains by its manifest, and counts by its plan")
    try:
        limits.require_step(shown.plan, newest.optimiser)
        totals = _require_sum(record, shown, held)
        vector, moments = next_model(before, newest.optimiser, model, totals.mean(), shown.moments)
        if tuple(map(file_sha256, moments)) != newest.moments:
            raise ConfigurationError(f"the state of the optimiser after {what} is not the one that it signs")
    except (ConfigurationError, StorageError, NormError) as error:
        raise ModelError(f"{what} is refused: {error.message}", hint=error.hint) from error
    reach = limits.reach(shown.plan, newest.optimiser) * ROUNDING
    if not (norm := euclidean_norm(vector - model)) <= reach:
        raise ModelError(f"{what} lies {norm:.4g} from the model before it, above the limit of {reach:.4g}")
    return vector


def require_memory(
    record: VerifiedRecord, shown: OpenedSum, *, before: Manifest, counted: Manifest, held: Holdings
) -> SharedMemory:
    """The memory that the round of the release `counted` leads to. Raises ModelError, PolicyError."""
    limits = _require_facts(record, shown, before=before, newest=counted, held=held)
    what = f"release {counted.number}"
    if not isinstance(shown.plan, CountPlan):
        raise ModelError(f"{what} counts by its manifest, and trains by its plan")
    limits.require_plan(shown.plan)
    try:
        totals = _require_sum(record, shown, held)
    except (ConfigurationError, StorageError, NormError) as error:
        raise ModelError(f"{what} is refused: {error.message}", hint=error.hint) from error
    memory = memory_of(totals, shown.plan, survivors=len(record.survivors))
    if counted.shared_memory is None or memory.digest() != counted.shared_memory.sha256:
        raise ModelError(f"the memory of {what} is not the one that its sum makes")
    return memory


def memory_of(totals: Totals, plan: CountPlan, *, survivors: int) -> SharedMemory:
    """The shared memory that follows from an opened sum; the same on both sides."""
    (group,) = totals.quantiser.groups
    step = group.range / totals.quantiser.levels
    shares = totals.quantiser.shares
    return SharedMemory.of_sum(totals.integers, plan, survivors=survivors, step=step, shares=shares)


def _require_facts(
    record: VerifiedRecord, shown: OpenedSum, *, before: Manifest, newest: Manifest, held: Holdings
) -> RoundLimits:
    """Checks that the manifest says the same of its round as the round's members signed; returns the limits of their
    charter."""
    context = record.context
    charter = held.charters.by_hash(context.charter_hash)
    what = f"release {newest.number}"
    facts = {
        "run": (newest.run, context.run),
        "round": (newest.round, context.round),
        "charter": (newest.charter_hash, context.charter_hash),
        "model": (before.vector_hash, context.model_hash),
        "set of members": (newest.members, record.survivors),
        "plan": (shown.plan.digest(), context.train_config_hash),
        "new model": (newest.vector_hash, record.record.new_model_hash),
        "place in the transcript": (before.transcript_head or GENESIS, record.record.previous),
        "record": (newest.transcript_head, transcript_head(shown.record)),
    }
    for fact, (said, signed) in facts.items():
        if said != signed:
            raise ModelError(f"{what} names another {fact} than the members of its round signed")
    return RoundLimits.of(charter, held.parameters)


def _founding(provenance: Provenance, newest: Manifest, held: Holdings) -> Vector:
    """Checks the founding model against the one derived here. If somebody else chose the start of the adapters, they
    could make members spend privacy on directions of their choice."""
    if provenance.opened is not None or provenance.model is not None or provenance.voucher:
        raise ModelError("the founding release comes with evidence of another one")
    vector = held.founding(newest)
    if vector_hash(vector) != newest.vector_hash:
        raise ModelError(
            "release 0 is not the model that follows from the charter",
            hint="install the version of sordino that the federation was founded with",
        )
    return vector


def _restored(provenance: Provenance, newest: Manifest, held: Holdings) -> Vector:
    if provenance.opened is not None:
        raise ModelError("a rollback comes with the opening of a round")
    vouched = _vouched(provenance.voucher, held) if provenance.voucher else None
    return _known(newest, newest.vector_hash, provenance.model, vouched, held)


def _stepped(provenance: Provenance, newest: Manifest, before: Manifest, held: Holdings) -> Vector:
    if provenance.opened is None or provenance.voucher:
        raise ModelError(
            f"nothing shows how release {newest.number} was made",
            hint="the coordinator keeps that of its newest release only if it made it with this version: "
            "after one more round of other members this member can follow",
        )
    record = _vouched(provenance.opened.record, held)
    model = _known(newest, before.vector_hash, provenance.model, record, held)
    return require_step(record, provenance.opened, before=before, model=model, newest=newest, held=held)


def _counted(
    provenance: Provenance, newest: Manifest, before: Manifest, held: Holdings
) -> tuple[Vector, SharedMemory]:
    """The model is unchanged; the memory is the one that the round counted."""
    if provenance.opened is None or provenance.voucher or provenance.counted is not None:
        raise ModelError(
            f"nothing shows how release {newest.number} was counted, or more than one thing does"
        )
    record = _vouched(provenance.opened.record, held)
    memory = require_memory(record, provenance.opened, before=before, counted=newest, held=held)
    return _known(newest, before.vector_hash, provenance.model, record, held), memory


def _memory_in_force(
    provenance: Provenance, newest: Manifest, chain: Sequence[SignedManifest], held: Holdings
) -> SharedMemory | None:
    """The memory that an earlier round counted, if it is shown and not yet held. Raises ModelError for one that does
    not belong to the newest release."""
    mark, shown = newest.shared_memory, provenance.counted
    if shown is None:
        return None
    if mark is None:
        raise ModelError(f"release {newest.number} has no shared memory, and comes with one")
    if held.remembers(mark.sha256):
        return None
    before, counted = (chain[number].manifest for number in (mark.release - 1, mark.release))
    if not counted.counted or counted.shared_memory != mark:
        raise ModelError(f"release {newest.number} names a memory that release {mark.release} did not count")
    return require_memory(_vouched(shown.record, held), shown, before=before, counted=counted, held=held)


def _vouched(record: bytes, held: Holdings) -> VerifiedRecord:
    """A record, verified against the charter of its own epoch."""
    parsed = Record.decode(record)
    charter = held.charters.by_hash(RoundContext.decode(parsed.context).charter_hash)
    verified = verify_record(parsed, {charter.hash(): charter.membership()})
    held.agrees(verified)
    return verified


def _known(
    newest: Manifest, wanted: bytes, offered: Vector | None, vouched: VerifiedRecord | None, held: Holdings
) -> Vector:
    """The vector with the hash `wanted`: one held here, one derived here, or one offered that members vouch for."""
    vector = held.vector(wanted)
    if vector is not None:
        return vector
    founding = held.founding(newest)
    if vector_hash(founding) == wanted:
        return founding
    if vouched is None or vouched.context.model_hash != wanted:
        raise ModelError(f"no member vouches for the model that release {newest.number} goes back to")
    if offered is None or offered.size != newest.dimension or vector_hash(offered) != wanted:
        raise ModelError(f"the model that release {newest.number} goes back to was not sent with it")
    return offered


def _require_sum(record: VerifiedRecord, shown: OpenedSum, held: Holdings) -> Totals:
    """The decoded sum, after checks that its survivors uploaded it and that honest members can make it. Raises
    EvidenceError, NormError, ModelError."""
    charter, quantiser = held.charters.by_hash(record.context.charter_hash), record.context.quantiser
    if quantiser != quantiser_for(
        charter.model.config(), shown.plan, members=len(charter.members), shares=charter.noise_shares()
    ):
        raise ModelError("the quantiser of the sum does not follow from its plan")
    if sum_digest(shown.sum) != record.record.sum_hash:
        raise ModelError("the opened sum is not the one that its record names")
    lengths = record.opened.require_sum(
        charter.membership(),
        record.context,
        shown.evidence,
        shown.sum,
        shown.carries,
        shown.uploads,
        threads=THREADS,
    )
    totals = quantiser.decode(shown.sum)
    require_honest_mean(shown.plan, totals, survivors=len(record.survivors))
    require_honest_lengths(shown.plan, quantiser, lengths)
    return totals
