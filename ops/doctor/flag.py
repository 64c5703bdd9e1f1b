"""The flag: whether the document in force can be followed, and is."""

import contextlib
import json
import shlex
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

from app.settings import Settings
from app.streaming.backends import SAFE, offered
from app.streaming.flag import NO_GENERATION
from app.streaming.flag_document import FLAG, ForeignDocumentError, rules_of
from ops.doctor.finding import Finding, Findings, error, shortened, well
from ops.doctor.processes import metrics_of

CHECK = "flag.document"
FIX = "Set it anew: `streamgauge flag set BACKEND`."
SAMPLE = 50


async def newest(connection: asyncpg.Connection) -> tuple[int, Any]:
    """Give the generation in force and its document."""
    row = await connection.fetchrow(
        "SELECT generation, document::text AS document FROM flag_document ORDER BY generation DESC LIMIT 1"
    )
    return (int(row["generation"]), json.loads(row["document"])) if row else (NO_GENERATION, None)


def judge_document(settings: Settings, generation: int, document: Any) -> Finding:
    """Say whether each message would get a backend that exists here; else it gets the default, silently."""
    if document is None:
        return well(CHECK, f"none is set: new messages go to {settings.default_backend}")
    shown, core = f"generation {generation}", FlagdCore()
    try:
        core.set_flags(json.dumps(document))
        chosen = {str(_resolved(core)) for _ in range(SAMPLE)}
    except (OpenFeatureError, ValueError, TypeError, KeyError) as cause:
        return error(CHECK, f"{shown} can't be followed: APIs keep what they knew", shortened(cause), FIX)
    names = {str(variant) for variant in document["flags"][FLAG]["variants"].values()}
    if unknown := sorted((chosen | names) - set(offered(settings))):
        return error(
            CHECK,
            f"{shown} names backends that are not to be had here; such messages go to {settings.default_backend}",
            ", ".join(unknown),
            _fix(document, unknown),
        )
    return well(CHECK, f"{shown} is in force: {', '.join(sorted(chosen))}")


def _fix(document: Any, unknown: Sequence[str]) -> str:
    """A user's target stays when the flag is set, so it goes first."""
    with contextlib.suppress(ForeignDocumentError):
        aimed = [user for user, backend in rules_of(document).users.items() if backend in unknown]
        if aimed:
            first = f"`streamgauge flag target {shlex.quote(aimed[0])} none`"
            return f"{first}{f' and so for {len(aimed) - 1} more' if aimed[1:] else ''}. {FIX}"
    return FIX


def _resolved(core: FlagdCore) -> object:
    """Resolve it for a conversation as an API does: a flag that is off gives the safe backend."""
    return core.resolve_string_value(FLAG, SAFE, EvaluationContext(str(uuid4()), {})).value


async def examine_followers(http: httpx2.AsyncClient, apis: tuple[str, ...], newest_generation: int) -> Findings:
    """Compare generations: each API has just taken a message, and so has heard of the newest there is for it."""
    for number, api in enumerate(apis, 1):
        try:
            followed = int((await metrics_of(http, f"{api}/metrics")).get("streamgauge_flag_generation"))
        except (httpx2.HTTPError, OSError, ValueError):
            continue  # the page's own check says so
        if followed != newest_generation:
            yield error(
                f"api {number} flag",
                f"follows flag generation {followed}, and {newest_generation} is in force",
                f"streamgauge_flag_generation {followed} at {api}",
                "It reads another database, or could not follow the document: compare DATABASE_URL; see its log.",
            )
