"""Is there something to measure? Asked once, before anything is written."""

import os
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from loadtest.key import VARIABLE, key_headers
from loadtest.plan import Protocol


class BenchError(RuntimeError):
    """The run cannot begin; the message says what to change. A GeneratorError or CountersError can end it later."""


class NoTargetError(BenchError):
    """What was given as a target can't be one, whoever listens."""


def check_target(target: str, protocol: Protocol = "streamgauge") -> None:
    """Raise BenchError with the fix when nothing that is ready answers there."""
    if urlsplit(target).scheme not in {"http", "https"}:
        raise NoTargetError(f"{target!r} is no target: give a URL such as http://127.0.0.1:8000")
    path, fix = "/ready", "wait until the system is ready, or mend it"
    asked = Request(f"{target}{path}")  # noqa: S310
    if protocol == "openai":
        path, fix = "/models", "give the URL that ends before /chat/completions, and OPENAI_API_KEY if it wants one"
        asked = Request(f"{target}{path}", headers={"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"})  # noqa: S310
    try:
        with urlopen(asked, timeout=10) as answer:  # noqa: S310
            answer.read()
    except HTTPError as error:
        error.close()
        raise BenchError(f"{target}{path} answered {error.code}: {fix}") from error
    except (URLError, OSError) as error:
        raise BenchError(
            f"{target} does not answer ({_why(error)}): start it with 'streamgauge up', or check it"
        ) from error
    if protocol == "streamgauge":
        _check_key(target)


def _check_key(target: str) -> None:
    """Raise BenchError if the target asks for a key that we do not have; what has no sessions is asked no further."""
    asked = Request(f"{target}/session", method="POST", headers=key_headers())  # noqa: S310 - checked above
    try:
        with urlopen(asked, timeout=10) as answer:  # noqa: S310
            answer.read()
    except HTTPError as error:
        error.close()
        if error.code in {401, 403}:
            raise BenchError(
                f"{target} lets nobody in without a key: set {VARIABLE} to one; 'streamgauge key NAME' makes one"
            ) from error
    except (URLError, OSError) as error:
        raise BenchError(
            f"{target} does not answer ({_why(error)}): start it with 'streamgauge up', or check it"
        ) from error


def _why(error: OSError) -> str:
    """What the system said, without what Python wraps around it."""
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason)
