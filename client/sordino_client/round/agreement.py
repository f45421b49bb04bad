"""Decides what a member agrees to, from what it holds and what it is sent, before anything is changed.

    agreement = decide(member, proposal)      # raises, or says what would be adopted and the context of the round
    ...                                       # the owner, the budget
    adopt(member, agreement.adoption)         # the one step that keeps epochs and releases (adoption.py)

From a proposal the member takes only names, the nonce, and floors that are stricter than the charter's; everything that
protects it comes from its own charter, settings and releases.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sordino_client.round.adoption import Adoption, held
from sordino_client.round.epochs import require_unasked
from sordino_client.round.folder import is_round
from sordino_client.round.member import Member
from sordino_client.round.tenures import require_tenure
from sordino_platform.architecture import Vector
from sordino_platform.following import follow
from sordino_platform.proposal import Proposal, quantiser_for
from sordino_platform.release import vector_hash
from sordino_platform.round_limits import RoundLimits
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg import ContextError, ModelError, PolicyError, RoundContext, require_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The context that this member derived for itself, the model that the round begins with, and the adoption that the
    round needs."""

    context: RoundContext
    model: Vector = field(repr=False)
    adoption: Adoption


def decide(member: Member, proposal: Proposal) -> Agreement:
    """Makes every check of a proposal except the owner's and the budget's. Pure.

    Raises SupersededError (the proposal is of a machine that was replaced), EpochWaitsError (an epoch that a person
    must look at), ModelError (a release that does not follow, or a model that is not the newest), ContextError,
    PolicyError, ConfigurationError.
    """
    plan, said = proposal.plan, proposal.context
    if not is_round(said.run, said.round):
        raise ContextError("the run's name is not one that a coordinator of this software gives")
    tenure = require_tenure(member, proposal.tenure)
    charters = member.identity.charters
    epochs = charters.with_offered(proposal.charters)
    require_unasked(member.folder, charters.head().charter, epochs.charters, member.settings.accept_unasked)
    charter = epochs.head()
    charter.require_current()
    if charter.model != member.charter.model:
        raise ConfigurationError(
            f"epoch {charter.epoch} is for another model", hint="a new model is a new federation"
        )
    RoundLimits.of(charter, member.parameters).require_plan(plan)
    if (
        plan.delta > member.ledger.budget.delta * 10
        or plan.windows_per_unit > member.settings.windows_per_unit
    ):
        raise PolicyError("the plan's delta or windows per unit exceed this member's own settings")
    membership = charter.membership()
    quantiser = quantiser_for(member.config, plan, members=len(membership.members), shares=membership.shares)
    known = held(member, epochs)
    try:
        followed = follow(proposal.provenance, known) if proposal.provenance is not None else None
    except ConfigurationError as error:
        raise ModelError(error.message, hint=error.hint) from error
    newest = member.newest_release()
    if followed is None and newest < 0:
        raise ModelError("the coordinator sent no release, and none is held here")
    model = followed.vector if followed is not None else member.releases.vector(newest)
    require_model(vector_hash(model), said.model_hash)
    return Agreement(
        context=RoundContext.under(
            membership,
            run=said.run,
            round=said.round,
            attempt=said.attempt,
            server_nonce=said.server_nonce,
            model_hash=said.model_hash,
            train_config_hash=plan.digest(),
            quantiser=quantiser,
        ).at_least(said),
        model=model,
        adoption=Adoption(
            tenure=tenure,
            charters=proposal.charters,
            charter=charter,
            membership=membership,
            followed=followed,
            coming=member.coming.after(member.releases.chain(), epochs),
        ),
    )
