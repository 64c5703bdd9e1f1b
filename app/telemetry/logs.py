"""What a process says: one JSON line an event, or colours for a person, whichever library says it.

Code logs through the standard library and knows nothing of this. A line names the task, the message and the backend
that it is about, as far as `about` was told, and the trace if that is kept. It holds no secret, and no word of a prompt
or an answer unless STREAMGAUGE_LOG_CONTENT asks for it.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import JSONRenderer, TimeStamper, format_exc_info
from structlog.stdlib import ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict, Processor

from app.settings import Settings
from app.telemetry import tracing

PASSWORD = re.compile(r"(\w://[^\s:@/]*:)[^\s@/]+@")
"""In the URL of a server."""
SHORTEST_KEY = 8
"""A shorter key, such as `none`, is a word that may stand anywhere."""
REPEATS = {"httpx2": logging.WARNING}
"""Below this level it says of every model request what the trace says too."""
QUOTES = {"openai": logging.INFO}
"""Below this level it quotes requests."""

_shows_content = False


@dataclass(slots=True)
class Subject:
    """What the lines of one task, or of one request, are about."""

    task_id: UUID
    message_id: UUID | None = None
    backend: str | None = None


_subject: ContextVar[Subject | None] = ContextVar("what_is_logged_about", default=None)


def about(task_id: UUID, message_id: UUID | None = None, backend: str | None = None) -> None:
    """Say what this asyncio task, and those that it starts from here on, log about."""
    _subject.set(Subject(task_id, message_id, backend))


def moved(backend: str) -> None:
    """Note that the stream in question lives in this backend by now."""
    if (subject := _subject.get()) is not None:
        subject.backend = backend


def quoted(words: str | bytes) -> str:
    """Give what the model or a person said, for a message that may be logged; how long it is, unless content shows."""
    if _shows_content:
        return repr(words)
    return f"({len(words)} characters, which STREAMGAUGE_LOG_CONTENT=true would show)"


def is_for_people(settings: Settings) -> bool:
    """Tell whether a person reads the lines as they come."""
    return settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())


def configure(settings: Settings) -> None:
    """Send everything that is logged in this process to stderr, in one format. Once is enough; twice is harmless."""
    global _shows_content
    _shows_content = settings.log_content
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name, level in (REPEATS if settings.log_content else REPEATS | QUOTES).items():
        logging.getLogger(name).setLevel(max(level, root.level))
    logging.captureWarnings(capture=True)


def formatter(settings: Settings) -> logging.Formatter:
    """Give what turns records into lines."""
    renderer: Processor = JSONRenderer(serializer=_json)
    if is_for_people(settings):
        renderer = ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)
    return ProcessorFormatter(
        processors=[
            TimeStamper(fmt="iso", utc=True),
            add_log_level,
            add_logger_name,
            _name_subject,
            ProcessorFormatter.remove_processors_meta,
            format_exc_info,
            _Hiding(settings.secrets),
            renderer,
        ]
    )


def _subject_of(record: logging.LogRecord) -> Subject | None:
    """Give what a line is about; Celery's own lines, which come from its consumer's thread, carry their task's id."""
    subject, task = _subject.get(), getattr(record, "data", None)
    if subject is None and isinstance(task, dict):
        with contextlib.suppress(KeyError, ValueError):
            return Subject(UUID(task["id"]))
    return subject


def _name_subject(_logger: Any, _method: str, event: EventDict) -> EventDict:
    if (subject := _subject_of(event["_record"])) is not None:
        if kept := tracing.exemplar(subject.task_id):
            event["trace"] = kept["trace_id"]
        event["task"] = str(subject.task_id)
        if subject.message_id is not None:
            event["message"] = str(subject.message_id)
        if subject.backend is not None:
            event["backend"] = subject.backend
    return event


class _Hiding:
    """Takes secrets out of a line's texts: the passwords of URLs, and those of the settings."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret for secret in secrets if len(secret) >= SHORTEST_KEY]

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        for name in ("event", "exception", "stack"):
            if name in event:
                text = PASSWORD.sub(r"\1…@", str(event[name]))
                for secret in self._secrets:
                    text = text.replace(secret, "…")
                event[name] = text
        return event


def _json(event: dict[str, Any], **_: Any) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "logger", "event")}
    return msgspec.json.encode(first | event, enc_hook=str).decode()
