"""An opened sum becomes the next release: checked, kept with the record that its members signed, signed and chained.

Everything is written before the round's own row commits it: what a crash leaves behind is removed when the folder is
opened again (`Federation.recover`).
"""

from __future__ import annotations

from sordino_coordinator.federation import Federation
from sordino_coordinator.next_release import NextRelease, release_of_counts, stepped
from sordino_coordinator.records import CARRIES, EVIDENCE, PLAN, SUM
from sordino_coordinator.release_gate import UnusableSumError
from sordino_platform.durable import make_folder, write_file
from sordino_platform.provenance import UPLOAD
from sordino_platform.release import vector_hash
from sordino_platform.release.optimiser import Moments
from sordino_privacy.counts import CountPlan
from sordino_privacy.secagg import GENESIS, AggregateSum, CoordinatorSession, transcript_head


def commit_release(
    federation: Federation, round: int, session: CoordinatorSession, opened: AggregateSum
) -> int:
    """Checks the sum, writes the transcript, makes the next release.

    Raises UnusableSumError (the old model stays), StorageError.
    """
    if (why := federation.ended_by(session.cohort)) is not None:
        raise UnusableSumError(f"{why}; the old model stays", of_members=False)
    made = _made(federation, opened)
    if federation.settings.keep_opened_sums_for_a_proof:
        make_folder(federation.folder / "sums")
        write_file(federation.folder / "sums" / f"{round:06d}.bin", opened.vector.tobytes())
    record = session.record(federation.releases.head().transcript_head or GENESIS, vector_hash(made.vector))
    write_file(federation.records.path(federation.releases.head().number + 1), record)
    manifest = federation.releases.add(
        made.vector,
        key=federation.identity.signing_key,
        run=federation.run,
        round=round,
        members=opened.survivors,
        heldout_loss=made.loss,
        transcript_head=transcript_head(record),
        charter=federation.charter,  # its members signed under this epoch, whatever began since
        optimiser=made.optimiser,
        moments=made.moments,
        opened={
            PLAN: federation.plan.canonical(),
            SUM: opened.vector.data.cast("B"),
            CARRIES: opened.carries.data.cast("B"),
            EVIDENCE: opened.evidence,
            **{f"{UPLOAD}{name}": session.upload_of(name) for name in opened.silent},
        },
        counted=made.memory,
    )
    # All of it is in the published sum: the share of coordinates that met the end of the quantiser's range.
    saturated = opened.totals.saturated / (opened.totals.integers.size * len(opened.survivors))
    federation.log.info(
        "release",
        round=round,
        release=manifest.number,
        loss=made.loss,
        loss_before=federation.loss,
        norm=made.norm,
        saturated=saturated,
        phrases=None if made.memory is None else made.memory.phrases,
    )
    federation.loss = made.loss
    federation.releases.prune()
    federation.metrics.model_version.set(manifest.number)
    federation.metrics.loss.set(made.loss or 0.0)
    if made.memory is not None:
        federation.metrics.phrases.set(made.memory.phrases)
    return manifest.number


def _made(federation: Federation, opened: AggregateSum) -> NextRelease:
    """What the sum makes, by the plan of its round. Raises UnusableSumError."""
    head, model = federation.releases.head(), federation.weights()
    if isinstance(federation.plan, CountPlan):
        return release_of_counts(
            opened, federation.plan, head=head, model=model, moments=federation.releases.moments()
        )
    optimiser = federation.settings.server_optimiser
    return stepped(
        opened,
        head=head,
        model=model,
        optimiser=optimiser,
        moments=_moments(federation),
        gate=federation.gate,
    )


def _moments(federation: Federation) -> Moments:
    """The optimiser's state that the next step begins with; none where another optimiser made the newest
    release."""
    same = federation.releases.head().optimiser == federation.settings.server_optimiser
    return federation.releases.moments() if same else ()
