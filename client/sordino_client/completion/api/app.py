"""The application: every dialect's routes, health, metrics, and the guard in front."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict

from sordino_client.completion.api import (
    llamacpp,
    mistral,
    names,
    next_edit,
    ollama,
    openai,
    page,
    problems,
    tabby,
)
from sordino_client.completion.api.guard import EndpointGuard
from sordino_client.completion.api.metrics import CompletionMetrics
from sordino_client.completion.api.replies import reply
from sordino_client.completion.api.service import Service
from sordino_client.completion.engine import Busy, Engine, NoModel
from sordino_client.completion.memory.upkeep import Upkeep
from sordino_client.completion.query import Cancelled
from sordino_client.completion.statistics import EndpointStatistics

TOO_MANY = 429
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Refresh(BaseModel):
    """Nothing to say: what is remembered is set where the endpoint is started."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def build(engine: Engine, upkeep: Upkeep, statistics: EndpointStatistics, *, token: str) -> EndpointGuard:
    """The guarded ASGI application of one endpoint."""
    metrics = CompletionMetrics()
    service = Service(engine, metrics, statistics)
    app = FastAPI(
        title="sordino completion", version="1", docs_url=None, redoc_url=None, responses=problems.REFUSALS
    )
    problems.install(app)
    _install_engine_problems(app)
    for dialect in (openai, tabby, llamacpp, mistral, ollama, page):
        app.include_router(dialect.router(service))
    app.include_router(names.router())
    app.include_router(next_edit.router())

    @app.get("/v1/memory", tags=["sordino"])
    async def memory() -> Response:
        return reply(asdict(upkeep.store.status()))

    @app.post("/v1/memory/refresh", tags=["sordino"])
    async def refresh(_: Refresh) -> Response:
        upkeep.wanted = True
        await upkeep.look(engine.answered)
        return reply({"refreshing": upkeep.building})

    @app.delete("/v1/memory", tags=["sordino"])
    async def purge() -> Response:
        await upkeep.purge()
        return reply(asdict(upkeep.store.status()))

    @app.get("/metrics", tags=["sordino"], response_class=PlainTextResponse)
    async def exposition() -> Response:
        metrics.in_flight.set(engine.in_flight)
        return Response(metrics.registry.text(), media_type=METRICS_TYPE)

    return EndpointGuard(app, token=token, metrics=metrics)


def _install_engine_problems(app: FastAPI) -> None:
    """Answers the engine's exceptions with refusals that clients understand."""

    async def no_model(_: Request, error: Exception) -> Response:
        return problems.answer(503, f"no model yet: {error}", "no_model", **{"Retry-After": "5"})

    async def busy(_: Request, error: Exception) -> Response:
        return problems.answer(TOO_MANY, "too many requests are waiting", "busy", **{"Retry-After": "1"})

    async def withdrawn(_: Request, error: Exception) -> Response:
        return problems.answer(TOO_MANY, "withdrawn: a newer request of the same editor came", "withdrawn")

    app.add_exception_handler(NoModel, no_model)
    app.add_exception_handler(Busy, busy)
    app.add_exception_handler(Cancelled, withdrawn)
