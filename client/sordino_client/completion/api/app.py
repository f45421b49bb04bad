"""The application: every dialect's routes, health, metrics, and the guard in front."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import FastAPI
from fastapi.responses import Response

from sordino_client.completion.api import openai, problems
from sordino_client.completion.api.guard import Guard
from sordino_client.completion.api.metrics import CompletionMetrics
from sordino_client.completion.api.openai import compact
from sordino_client.completion.api.service import Service
from sordino_client.completion.engine import Engine
from sordino_client.completion.memory.upkeep import Upkeep

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build(engine: Engine, upkeep: Upkeep, *, token: str) -> Guard:
    """The guarded ASGI application of one endpoint."""
    metrics = CompletionMetrics()
    service = Service(engine, metrics)
    app = FastAPI(title="sordino completion", version="1", docs_url=None, redoc_url=None)
    problems.install(app)
    app.include_router(openai.router(service))

    @app.get("/v1/health", tags=["sordino"])
    async def health() -> Response:
        engine.refresh()
        state, reason = engine.state
        document = {"status": state, "reason": reason, "model": engine.model, "context": engine.context}
        return Response(compact(document), 200 if engine.model else 503, media_type="application/json")

    @app.get("/v1/memory", tags=["sordino"])
    async def memory() -> Response:
        return Response(compact(asdict(upkeep.store.status())), media_type="application/json")

    @app.post("/v1/memory/refresh", tags=["sordino"])
    async def refresh() -> Response:
        upkeep.wanted = True
        await upkeep.look(engine.answered)
        return Response(compact({"refreshing": upkeep.building}), media_type="application/json")

    @app.delete("/v1/memory", tags=["sordino"])
    async def purge() -> Response:
        await upkeep.purge()
        return Response(compact(asdict(upkeep.store.status())), media_type="application/json")

    @app.get("/metrics", tags=["sordino"])
    async def exposition() -> Response:
        metrics.in_flight.set(engine.in_flight)
        return Response(metrics.registry.text(), media_type=METRICS_TYPE)

    return Guard(app, token=token, metrics=metrics)
