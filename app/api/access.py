"""Who asks: the owner of the API key in a request, or of the session cookie where a browser can set no header.

Only the digests of keys are known here. A digest also signs the cookies of its key, in every process alike; whoever
takes a key out of STREAMGAUGE_API_KEYS ends its sessions with it.
"""

import functools
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from ipaddress import ip_address
from time import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from app.api.dependencies import Open
from app.settings import Settings

SESSION_S = 3600
COOKIE = "streamgauge_session"


def digest_of(key: str) -> str:
    """Give what the settings hold of a key."""
    return sha256(key.encode("latin-1", "replace")).hexdigest()


def bearer(request: Request) -> str:
    """Give the bearer token of a request, or nothing."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def sign(settings: Settings, key: str, now_s: float) -> str:
    """Make the session of a key that is valid: its owner, its end, and a signature of both."""
    digest = digest_of(key)
    told = f"{settings.api_keys[digest]}.{int(now_s) + SESSION_S}"
    return urlsafe_b64encode(f"{told}.{_signature(digest, told)}".encode()).decode()


def owner_of_session(settings: Settings, session: str, now_s: float) -> str | None:
    """Give whose session this is; None for one that is forged, over, or of a key that is no longer valid."""
    try:
        told, _, signature = urlsafe_b64decode(session.encode()).decode().rpartition(".")
    except ValueError:
        return None
    owner, _, end = told.rpartition(".")
    if not end.isdecimal() or len(end) > 12 or int(end) <= now_s:
        return None
    digests = [digest for digest, name in settings.api_keys.items() if name == owner]
    expected = [_signature(digest, told).encode() for digest in digests]
    return owner if any(hmac.compare_digest(one, signature.encode()) for one in expected) else None


def _signature(digest: str, told: str) -> str:
    return hmac.new(bytes.fromhex(digest), b"streamgauge session." + told.encode(), sha256).hexdigest()


async def _owner(services: Open, request: Request) -> str | None:
    keys = services.settings.api_keys
    if not keys:
        _check_is_ours(services.settings, request)
        return None
    owner = keys.get(digest_of(bearer(request)))
    if owner is None:
        raise unauthorized("Send a key: Authorization: Bearer …; `streamgauge key NAME` makes one.")
    return owner


@functools.lru_cache(1024)  # two are looked up at each request
def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is this machine's alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_from_here(request: Request) -> bool:
    """Tell whether a request comes from this machine and was meant for it.

    A web page from elsewhere can have its own name lead to 127.0.0.1; a proxy that serves others names them.
    """
    if request.client is None or not is_loopback(request.client.host):
        return False
    try:
        return is_loopback(urlsplit("//" + request.headers.get("host", "")).hostname or "")
    except ValueError:
        return False


def _check_is_ours(settings: Settings, request: Request) -> None:
    """Raise 403 if neither a key nor the operator's word lets this request in, and it is not from here."""
    if not settings.open and not _is_from_here(request):
        raise HTTPException(
            403,
            "Without API keys this machine alone is served, as localhost or 127.0.0.1. Set STREAMGAUGE_API_KEYS "
            "(`streamgauge key NAME` makes one), or STREAMGAUGE_OPEN=true to serve everybody.",
        )


async def _viewer(services: Open, request: Request) -> str | None:
    session = request.cookies.get(COOKIE)
    if services.settings.api_keys and session and "authorization" not in request.headers:
        owner = owner_of_session(services.settings, session, time())
        if owner is None:
            raise unauthorized("The session is over, or none of ours: POST /session with a key begins one.")
        return owner
    return await _owner(services, request)


Owner = Annotated[str | None, Depends(_owner)]
"""Who asks, by a key; None where no keys are set and everything is everybody's. Without a valid key: 401."""
Viewer = Annotated[str | None, Depends(_viewer)]
"""The same, and a session will do: for what only reads, since a cookie is sent whether or not its owner meant it."""

router = APIRouter(tags=["access"])


@router.post("/session", status_code=204)
async def begin_session(services: Open, request: Request, owner: Owner) -> Response:
    """Let a browser's EventSource, which can set no header, follow its owner's streams for an hour by a cookie."""
    response = Response(status_code=204)
    if owner is not None:
        response.set_cookie(
            COOKIE,
            sign(services.settings, bearer(request), time()),
            max_age=SESSION_S,
            path="/stream",
            secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
            httponly=True,
            samesite="strict",
        )
    return response


def check_token(request: Request, token: str, whose: str) -> None:
    """Raise 401 unless a request carries this token."""
    if not _has(request, token):
        raise unauthorized(f"Send {whose}: Authorization: Bearer …")


def _has(request: Request, token: str) -> bool:
    return bool(token) and secrets.compare_digest(bearer(request).encode(), token.encode())


async def _scraper(services: Open, request: Request) -> None:
    settings = services.settings
    if _has(request, settings.operator_token):
        return
    if settings.metrics_token:
        check_token(request, settings.metrics_token, "the token of STREAMGAUGE_METRICS_TOKEN, or the operator's")
    elif (settings.api_keys or not settings.open) and not _is_from_here(request):
        raise HTTPException(
            403, "Metrics are for this host alone: set STREAMGAUGE_METRICS_TOKEN to read them from afar."
        )


Scraper = Depends(_scraper)
"""May read the metrics, which tell of everybody's streams: their own token, the operator's, or else this host."""


def unauthorized(detail: str) -> HTTPException:
    """Refuse who does not say who he is."""
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
