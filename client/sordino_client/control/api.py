"""`/v1/member` and below: the member's state as JSON, and what a person decides.

`GET /v1/member/changes?after=REVISION` answers when the state is newer than REVISION, or after CHANGE_SECONDS: an
editor always knows the state, and neither side does anything while nothing happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sordino_client.completion.api import problems
from sordino_client.completion.api.guard import EndpointGuard
from sordino_client.ledger import Cost
from sordino_client.round.epochs import waiting_epoch
from sordino_client.round.member import Member
from sordino_client.round.participation import Consent
from sordino_client.status import certificate, read_ledger, said
from sordino_platform.link import LinkStatus
from sordino_platform.offer import Offer
from sordino_privacy.counts import CountPlan
from sordino_privacy.errors import SordinoError, UsageError

CHANGE_SECONDS = 300.0


class AgreeRequest(BaseModel):
    """A person agrees to the round that `offer` names (an offer's `id`). `epsilon_after` is the most that may be spent
    in all after that round."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    offer: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    epsilon_after: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
    # The same limit for the epsilon if all others collude with the coordinator, as it was shown. Left out, it is
    # `epsilon_after`.
    epsilon_if_others_collude_after: Annotated[float | None, Field(gt=0, le=100_000, allow_inf_nan=False)] = (
        None
    )


class EmptyObject(BaseModel):
    """An empty object."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MemberControl:
    """The answers and actions of the routes for one member. `link` gives the connection's present state."""

    def __init__(self, member: Member, link: Callable[[], LinkStatus], withdrawn: Callable[[], None]) -> None:
        self.member, self.link = member, link
        # Ends the training that is under way, where there is one.
        self.withdrawn = withdrawn
        self.moved = asyncio.Event()
        self._cost: tuple[tuple[bytes, int], Cost] | None = None

    def state(self) -> dict[str, Any]:
        """The whole state. The accounting of a new plan takes up to seconds: call it off the event loop."""
        member, participation = self.member, self.member.participation
        revision, offer, link = participation.revision, participation.offer, self.link()
        spent, budget = member.epsilon_spent(), member.ledger.budget
        return {
            "member": member.name,
            "federation": member.membership.federation,
            "version": version("sordino"),
            "revision": revision,
            "link": {"state": link.state.value, "message": link.message, "hint": link.hint},
            "certificate": certificate(member.identity),
            "activity": asdict(participation.activity),
            "release": member.newest_release(),
            "privacy": {
                "spent": spent,
                "budget": budget.epsilon,
                "left": max(0.0, budget.epsilon - spent),
                "delta": budget.delta,
                "if_others_collude": member.ledger.spent_alone().value,
                "if_others_collude_budget": budget.epsilon_if_others_collude,
            },
            "participation": {
                "mode": participation.mode,
                "paused": participation.paused,
                "agreed": asdict(participation.agreed) if participation.agreed else None,
            },
            "offer": self._offer(offer) if offer is not None else None,
            "epoch": self._epoch(),
            "last": asdict(participation.last) if participation.last else None,
        }

    def _epoch(self) -> dict[str, Any] | None:
        """The epoch that waits for a person: its number, one line for each change, and the command to type."""
        waits = waiting_epoch(self.member.folder, self.member.identity.charters)
        return None if waits is None else waits.facts()

    def _offer(self, offer: Offer) -> dict[str, Any]:
        """The offer in counts, and what it would cost by this member's own accounting."""
        key = offer.plan.digest(), len(self.member.ledger.reservations())
        if self._cost is None or self._cost[0] != key:
            self._cost = key, self.member.ledger.preview(offer.plan, noise=self.member.noise(offer.plan))
        cost = self._cost[1]
        return {
            "id": offer.id,
            "kind": "count" if isinstance(offer.plan, CountPlan) else "train",
            "round": offer.round,
            "release": offer.release,
            "connected": offer.connected,
            "ready": offer.ready,
            "required": offer.required,
            "members": offer.members,
            "cost": {
                "run": cost.run,
                "after": cost.after,
                "runs_left": cost.runs_left,
                "if_others_collude_after": cost.alone,
            },
        }

    def releases(self) -> list[dict[str, Any]]:
        """Every verified release: its number, round, members and held-out loss (nats per token, public code)."""
        return [
            {
                "release": manifest.number,
                "round": manifest.round,
                "members": list(manifest.members),
                "heldout_loss": manifest.heldout_loss,
            }
            for manifest in (signed.manifest for signed in self.member.releases.chain())
        ]


def control_app(desk: MemberControl, *, token: str) -> EndpointGuard:
    """The guarded ASGI application."""
    app = FastAPI(title="sordino member control", version="1", docs_url=None, redoc_url=None)
    problems.install(app)

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, SordinoError)
        return problems.answer(409 if isinstance(error, UsageError) else 500, said(error), "refused")

    app.add_exception_handler(SordinoError, refused)
    participation = desk.member.participation

    async def state() -> dict[str, Any]:
        return await asyncio.to_thread(desk.state)

    @app.get("/v1/member")
    async def member() -> dict[str, Any]:
        return await state()

    @app.get("/v1/member/changes")
    async def changes(after: Annotated[int, Query(ge=0, lt=1 << 62)]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(CHANGE_SECONDS):
                while participation.revision <= after:
                    moved = desk.moved
                    if participation.revision <= after:
                        await moved.wait()
        except TimeoutError:
            pass  # the same state again: the editor asks again
        return await state()

    @app.get("/v1/member/ledger")
    async def ledger() -> dict[str, Any]:
        return await asyncio.to_thread(read_ledger, desk.member.folder)

    @app.get("/v1/member/releases")
    async def releases() -> list[dict[str, Any]]:
        return await asyncio.to_thread(desk.releases)

    @app.post("/v1/member/agree")
    async def agree(body: AgreeRequest) -> dict[str, Any]:
        offer = participation.offer
        round = offer.round if offer is not None else 0
        alone = body.epsilon_if_others_collude_after or body.epsilon_after
        participation.agree(
            Consent(
                offer=body.offer,
                round=round,
                epsilon_after=body.epsilon_after,
                epsilon_if_others_collude_after=alone,
            )
        )
        return await state()

    @app.post("/v1/member/withdraw")
    async def withdraw(_: EmptyObject) -> dict[str, Any]:
        participation.withdraw()
        await asyncio.to_thread(desk.withdrawn)
        return await state()

    @app.post("/v1/member/pause")
    async def pause(_: EmptyObject) -> dict[str, Any]:
        participation.pause()
        await asyncio.to_thread(desk.withdrawn)
        return await state()

    @app.post("/v1/member/resume")
    async def resume(_: EmptyObject) -> dict[str, Any]:
        participation.resume()
        return await state()

    return EndpointGuard(app, token=token, metrics=desk.member.metrics)
