"""The page people look at: our own static files, under a content policy that lets in nothing else."""

import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Header, HTTPException, Response
from pydantic import BaseModel

from app.api.dependencies import Open
from app.settings import Settings
from app.streaming.backends import offered

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent.parent / "web"
SCRIPTED = "scripted"
"""The model whose name sets its pace; the page offers to set it where such names are allowed."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{control}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
SAFE = {
    # Isolated, a page's clock has steps of 5 µs instead of 100: it measures latencies of less than a millisecond.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served."""

    content: bytes
    media_type: str
    etag: str


def _read(path: Path) -> File:
    content = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return File(content, media_type, f'"{_digest(content)}"')


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:20]


FILES = {path.name: _read(path) for path in FOLDER.iterdir() if path.is_file()}
INDEX = "index.html"
VERSION = f"{version('streamgauge')} {_digest(repr(sorted(FILES.items())).encode())}"
"""Of the release and of the page's files: another one tells an open page of a deploy."""


class System(BaseModel):
    """What the page needs to know of this system."""

    version: str
    backends: tuple[str, ...]
    model: str
    scripted: bool
    max_content_chars: int
    control_url: str
    links: dict[str, str]


IfNoneMatch = Annotated[str | None, Header()]


@router.head("/")
@router.get("/")
async def index(services: Open, if_none_match: IfNoneMatch = None) -> Response:
    """Give the page."""
    return _serve(services.settings, FILES[INDEX], if_none_match)


@router.get("/web/system.json")
async def system(services: Open, response: Response) -> System:
    """Tell the page what is offered here."""
    settings = services.settings
    response.headers["Cache-Control"] = "no-store"
    return System(
        version=VERSION,
        backends=offered(settings),
        model=settings.openai_model,
        scripted=settings.allows_model(f"{SCRIPTED}?gap=0.05"),
        max_content_chars=settings.max_content_chars,
        control_url=settings.control_url,
        links=settings.page_links,
    )


@router.head("/web/{name}")
@router.get("/web/{name}")
async def file(services: Open, name: str, if_none_match: IfNoneMatch = None) -> Response:
    """Give one of the page's files."""
    if name not in FILES:
        raise HTTPException(404, f"The page has no file {name}; it begins at /.")
    return _serve(services.settings, FILES[name], if_none_match)


def _serve(settings: Settings, found: File, if_none_match: str | None) -> Response:
    """Answer with a file, or with 304: it is asked for each time, so that a new version is seen at once."""
    headers = {
        **SAFE,
        "Content-Security-Policy": POLICY.format(control=_origin(settings.control_url)),
        "Cache-Control": "no-cache",
        "ETag": found.etag,
    }
    if if_none_match and found.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f" {parts.scheme}://{parts.netloc}" if url else ""
