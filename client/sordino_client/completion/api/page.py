"""The statistics page at `/`, `GET /v1/statistics` and `GET /v1/why`.

The page is markup, style and script without any data. It is opened as `http://127.0.0.1:PORT/#TOKEN`: the part
behind `#` never leaves the browser, and the script sends it as the bearer token for the figures.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sordino_client.completion.api.replies import reply
from sordino_client.completion.api.service import Service
from sordino_client.completion.reasons import EXPLANATION

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def router(service: Service) -> APIRouter:
    """The page's routes."""
    routes = APIRouter(tags=["sordino"])
    folder = files("sordino_client.completion.api") / "static"
    contents = {
        name: ((folder / name).read_bytes(), kind)
        for name, kind in (
            ("page.html", "text/html; charset=utf-8"),
            ("page.js", "text/javascript; charset=utf-8"),
            ("page.css", "text/css; charset=utf-8"),
        )
    }

    def static(name: str) -> Response:
        body, kind = contents[name]
        return Response(body, 200, SECURITY, kind)

    @routes.get("/", include_in_schema=False)
    async def page() -> Response:
        return static("page.html")

    @routes.get("/page.js", include_in_schema=False)
    async def script() -> Response:
        return static("page.js")

    @routes.get("/page.css", include_in_schema=False)
    async def style() -> Response:
        return static("page.css")

    @routes.get("/v1/statistics")
    async def statistics() -> Response:
        engine = service.engine
        found = service.statistics.summary() | {"model": engine.model, "state": engine.state[1]}
        return reply(found | {"explanations": EXPLANATION})

    @routes.get("/v1/why")
    async def why(request: Request) -> Response:
        """The last outcomes of the editor that asks (X-Sordino-Editor), the newest first."""
        outcomes = service.outcomes.get(request.headers.get("x-sordino-editor", ""), ())
        return reply(
            [{"reason": reason, "explanation": EXPLANATION[reason]} for reason in reversed(outcomes)]
        )

    return routes
