"""API keys: made here, known to nobody afterwards."""

import re
import secrets

from app.api.access import digest_of
from app.settings import API_KEY
from ops.usage import UsageError


def make_key(name: str) -> tuple[str, str]:
    """Make a key for an owner: the key, and what STREAMGAUGE_API_KEYS holds of it. Raises `UsageError`."""
    key = secrets.token_urlsafe(32)
    entry = f"{name}:{digest_of(key)}"
    if not re.fullmatch(API_KEY, entry):
        raise UsageError(f"{name!r} is no name for an owner: use letters, digits, and . @ + - _")
    return key, f"STREAMGAUGE_API_KEYS={entry}"
