"""Every error of the API as an RFC 9457 problem: what happened, and what to do next."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from app.api.limits import OverLimitError
from app.broker import BrokerUnavailableError
from app.database import DatabaseUnavailableError, DataRefusedError
from app.streaming.contract import StoreUnavailableError
from app.streaming.pairs import UnknownBackendError
from app.telemetry import metrics

log = logging.getLogger(__name__)

RETRY_AFTER_S = 2
SERVERS: Mapping[type[Exception], tuple[str, str]] = {
    DatabaseUnavailableError: ("database", "DATABASE_URL"),
    StoreUnavailableError: ("chunk store", "REDIS_URL"),
    BrokerUnavailableError: ("broker", "BROKER_URL"),
}
"""What is away when one of these is raised, and the setting that names it."""
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """RFC 9457 problem details; `errors` names each offending part of a request that did not validate."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None


def responses(titles: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Describe problems of these statuses to the OpenAPI document."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": title, "content": content} for status, title in titles.items()}


RESPONSES = responses(
    {
        401: "No key, or none that is valid",
        403: "Not for other hosts without a key",
        404: "Not found",
        413: "The body is too long",
        422: "Not valid",
        429: "As much as one owner may have",
        500: "A fault of ours",
        503: "A server that this needs is away",
    }
)
"""What any route may answer besides its own."""


def problem(
    status: int,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
) -> JSONResponse:
    """Answer with a problem."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors)
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, MEDIA_TYPE)


def unavailable(dependency: str, fix: str) -> JSONResponse:
    """Answer 503 for a server that is away."""
    metrics.POSTS_REFUSED.labels(dependency).inc()
    detail = f"The {dependency} did not answer. Nothing was stored; try again. If it lasts: {fix}"
    return problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def over_limit(error: OverLimitError) -> JSONResponse:
    """Answer 429 to an owner who has as much as he may."""
    return problem(429, str(error), headers={"Retry-After": str(error.retry_after_s)})


def _invalid(errors: list[dict[str, str]]) -> JSONResponse:
    return problem(422, "The request does not validate; `errors` names each part to correct.", errors=errors)


def _fault(error: Exception) -> JSONResponse:
    return problem(500, f"A fault of ours ({type(error).__name__}); the server's log has its trace.")


def install(app: FastAPI) -> None:
    """Make the app answer every error as a problem."""

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # FastAPI's, of a body that breaks its parser otherwise than by its grammar
            return _invalid(
                [{"where": "body", "what": "can't be read: no UTF-8, nested too deeply, or too long a number"}]
            )
        return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"where": ".".join(map(str, e["loc"])), "what": str(e["msg"])} for e in error.errors()]
        return _invalid(errors)

    @app.exception_handler(OverLimitError)
    async def full(_: Request, error: OverLimitError) -> JSONResponse:
        return over_limit(error)

    @app.exception_handler(DatabaseUnavailableError)
    @app.exception_handler(StoreUnavailableError)
    @app.exception_handler(BrokerUnavailableError)
    async def away(_: Request, error: Exception) -> JSONResponse:
        server, variable = next(named for kind, named in SERVERS.items() if isinstance(error, kind))
        log.error("%s: %s", server, error)
        return unavailable(server, f"check {variable} and the server.")

    @app.exception_handler(DataRefusedError)
    async def data(_: Request, error: DataRefusedError) -> JSONResponse:
        log.error("database: %s", error, exc_info=error)
        return _fault(error)

    @app.exception_handler(UnknownBackendError)
    async def newer(_: Request, error: UnknownBackendError) -> JSONResponse:
        log.warning("%s", error)
        return problem(503, str(error), headers={"Retry-After": str(RETRY_AFTER_S)})

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> JSONResponse:
        return _fault(error)
