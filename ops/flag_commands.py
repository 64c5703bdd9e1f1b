"""`streamgauge flag`: which backend new messages get. It needs DATABASE_URL and takes effect with the next message."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from app.database import Database, DatabaseUnavailableError
from app.records import Records
from app.settings import Settings, load_settings
from app.streaming.backends import NAMES, offered
from app.streaming.flag import NO_GENERATION, describe, document_for
from ops.processes import StackError
from ops.usage import UsageError

commands = typer.Typer(no_args_is_help=True, help="Show or set the backend of new messages; live streams never move.")
console = Console(highlight=False)
T = TypeVar("T")


@commands.command()
def show() -> None:
    """Show the document in force and its generation."""
    settings = load_settings()
    newest = _with_records(settings, lambda records: records.newest_flag(NO_GENERATION))
    if newest is None:
        console.print(f"No document is set: new messages go to {settings.default_backend} (the default).")
        return
    generation, document = newest
    default = describe(document, settings.default_backend)
    console.print(f"Generation {generation}: new messages go to {default}.")
    console.print_json(document)


@commands.command(name="set")
def set_backend(backend: Annotated[str, typer.Argument(help=f"One of: {', '.join(NAMES)}.")]) -> None:
    """Send every new message to BACKEND. Streams that run stay where they are."""
    if backend not in NAMES:
        raise UsageError(f"There is no backend {backend!r}: use one of {', '.join(NAMES)}.")
    settings = load_settings()
    if backend not in offered(settings):
        raise UsageError(f"{backend} needs a single server, and STREAMGAUGE_STORE_CLUSTER is set: use pubsub.")
    document = document_for(backend, NAMES)
    generation = _with_records(settings, lambda records: records.add_flag(document))
    console.print(f"Generation {generation}: new messages go to {backend}. Undo: streamgauge flag set OTHER.")


def _with_records(settings: Settings, ask: Callable[[Records], Awaitable[T]]) -> T:
    async def run() -> T:
        async with Database.connect(settings.database_url, 1) as database:
            return await ask(Records(database))

    try:
        return asyncio.run(run())
    except DatabaseUnavailableError as error:
        raise StackError(f"The database did not answer: {error}. Set DATABASE_URL to the one the API uses.") from error
