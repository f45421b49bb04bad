"""What a member agrees to: the charter's epochs it takes over, and the context of a round that it derives itself.

From a proposal it takes only names, the nonce, and floors that are stricter than the charter's; what protects it comes
from its own charter, settings and releases.
"""

from __future__ import annotations

from collections.abc import Sequence

from sordino_client.member import Member
from sordino_client.round_folder import RoundFolder, is_round
from sordino_platform.charter import SignedCharter
from sordino_platform.charter.changes import changes
from sordino_platform.founding_model import require_founding
from sordino_platform.proposal import Proposal, quantiser_for
from sordino_platform.release import SignedManifest, vector_hash
from sordino_platform.round_limits import RoundLimits
from sordino_platform.telemetry import log
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import Context, ContextError, ModelError, PolicyError, euclidean_norm


def receive(member: Member, charters: Sequence[bytes]) -> None:
    """Keeps new epochs that the coordinator passed on, if the pinned root signed them and they protect no less.

    One that protects less waits for a person: the coordinator's message cannot loosen anything. Raises PolicyError,
    and what `CharterStore.accept` raises.
    """
    store = member.identity.charters
    for data in charters:
        offered = SignedCharter.parse(data, root=store.root).charter
        weaker = [change for change in changes(store.head().charter, offered) if change.weaker]
        if weaker and offered.epoch > store.head().charter.epoch:
            raise PolicyError(
                f"epoch {offered.epoch} protects less than the one held here: {weaker[0].field} would go from "
                f"{weaker[0].before} to {weaker[0].after}",
                hint="look it over (sordino charter diff); if you agree: sordino charter accept",
            )
        store.accept(data)


def adopt(member: Member) -> None:
    """Takes over the members, keys, floors and privacy policy of a new epoch that was accepted in this folder.

    Called where a round begins, so that a round never changes its rules half-way. Raises ConfigurationError.
    """
    charter = member.identity.charter
    if charter.hash() == member.charter.hash():
        return
    if charter.model != member.charter.model:
        raise ConfigurationError(
            f"epoch {charter.epoch} is for another model", hint="a new model is a new federation"
        )
    member.charter, member.membership = charter, charter.membership()
    largest = min(member.settings.budget_epsilon, charter.privacy.largest_epsilon)
    member.ledger.limit(largest)
    member.metrics.budget.set(largest)
    log().info("epoch_adopted", member=member.name, count=len(charter.members))


def agree(member: Member, proposal: Proposal) -> Context:
    """The context that this member derives for itself; from the proposal it takes only names and the nonce.

    Raises ModelError (the releases do not chain, or the weights are others), PolicyError, ConfigurationError.
    """
    plan, said = proposal.plan, proposal.context
    receive(member, proposal.charters)
    adopt(member)
    member.charter.require_current()
    if not is_round(said.run, said.round):
        raise ContextError("the run's name is not one that a coordinator of this software gives")
    RoundLimits.of(member.charter, member.parameters).require_plan(plan)
    if (
        plan.delta > member.ledger.budget.delta * 10
        or plan.windows_per_unit > member.settings.windows_per_unit
    ):
        raise PolicyError("the plan's delta or windows per unit exceed this member's own settings")
    quantiser = quantiser_for(member.config, plan, members=len(member.membership.members))
    try:
        _require_reachable(member, proposal)
        for manifest in proposal.manifests[:1]:
            require_founding(SignedManifest.parse(manifest).manifest, member.config, member.parameters)
        for manifest in proposal.manifests[:-1]:
            member.releases.accept(manifest, None)
        for manifest in proposal.manifests[-1:]:
            member.releases.accept(manifest, proposal.weights)
        head = member.releases.head()
    except ConfigurationError as error:
        raise ModelError(error.message, hint=error.hint) from error
    if vector_hash(proposal.weights) != head.vector_hash:
        raise ModelError("the proposed weights are not those of the newest release")
    return Context.under(
        member.membership,
        run=said.run,
        round=said.round,
        attempt=said.attempt,
        server_nonce=said.server_nonce,
        model_hash=head.vector_hash,
        train_config_hash=plan.digest(),
        quantiser=quantiser,
    ).at_least(said)


def _require_reachable(member: Member, proposal: Proposal) -> None:
    """Refusal 7 where this member took part in the round behind the one release that it lacks, and did not take
    its result: what it would not have taken there must not come in by the next proposal. Raises ModelError."""
    held = member.newest_release()
    if held < 0 or len(proposal.manifests) != 1 or not member.releases.holds(held):
        return
    manifest = SignedManifest.parse(proposal.manifests[0]).manifest
    if manifest.number != held + 1 or manifest.round is None or not is_round(manifest.run, manifest.round):
        return
    place = RoundFolder.of(member.folder, manifest.run, manifest.round)
    if not place.agreed:
        return
    old = member.releases.vector()
    limit = manifest.optimiser.reach(place.norm_limit(), old.size)
    if old.shape != proposal.weights.shape:
        raise ModelError("the proposed weights have another shape than this member's model")
    if not (norm := euclidean_norm(proposal.weights - old)) <= limit:
        raise ModelError(
            f"the proposed weights lie {norm:.4g} from this member's model, above the round's limit of {limit:.4g}"
        )
