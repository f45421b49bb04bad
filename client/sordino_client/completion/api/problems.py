"""Refusals and failures as every dialect's clients read them: `{"error": {"message", "type", "code"}}`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

METHOD_NOT_ALLOWED = 405


class ProblemReason(BaseModel):
    """Why a request was not answered; `code` is for programs."""

    message: str
    type: str
    code: str


class Refusal(BaseModel):
    """The body of every refusal."""

    error: ProblemReason


# For the OpenAPI document. `4XX` also keeps FastAPI from promising a 422, which is answered as 400 here.
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Refusal, "description": "Refused: by the guard, or not understood, or too many at once"},
    503: {"model": Refusal, "description": "There is no model on this machine yet"},
}


class Problem(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is understood and will not be answered; the message says why, without quoting it."""

    def __init__(self, status: int, message: str, *, code: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def answer(status: int, message: str, code: str, **headers: str) -> JSONResponse:
    """The one shape of a refusal."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse(
        {"error": {"message": message, "type": kind, "code": code}},
        status_code=status,
        headers={"X-Sordino-Reason": code, **headers},
    )


def install(app: FastAPI) -> None:
    """Maps every exception that a route of the guarded application lets through to an answer."""

    async def problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return answer(error.status, error.message, error.code)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        # Names of fields only: the library's own message quotes the value, which may be code.
        fields = sorted({".".join(str(part) for part in item["loc"][1:2]) for item in error.errors()})
        named = ", ".join(name for name in fields if name.isidentifier()) or "the body"
        return answer(400, f"not understood: {named}", "invalid")

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == METHOD_NOT_ALLOWED:
            # The router names the methods of the first route with this path; there may be several.
            methods = app.openapi()["paths"].get(request.url.path, {})
            headers["Allow"] = ", ".join(sorted(method.upper() for method in methods)) or "GET"
        return answer(error.status_code, str(error.detail), "http", **headers)

    async def fault(_: Request, error: Exception) -> JSONResponse:
        # Raised again behind this answer, and logged by the guard, by class.
        return answer(500, "the endpoint failed on this request", "error")

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)
