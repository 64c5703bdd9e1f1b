"""`streamgauge flag` and `streamgauge rollback`: which backend new messages get, in force with the next message."""

import getpass
import os
import shlex
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app import flags
from app.flag_records import FlagMovedError, FlagRecords, broken_at
from app.flag_words import check_said, plain
from app.flags import Change, Edit, Flags, Standing, said
from app.settings import IN_ROWS, load_settings
from app.streaming.backends import NAMES, SAFE, withheld
from app.streaming.flag_document import Rules
from app.telemetry.annotations import annotate
from ops.flag_access import recorded
from ops.processes import StackError
from ops.usage import UsageError

commands = typer.Typer(no_args_is_help=True, help="Show or change which backend new messages get.")
rollback_command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)
T = TypeVar("T")

LOOK_AGAIN_S = 0.5
BROKEN = 1
NOT_DRAINED = 3

Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
By = Annotated[str | None, typer.Option(help="Who; your user's name unless given.", show_default=False)]
Expected = Annotated[
    int | None, typer.Option(min=0, help="Only if the flag is at this generation, as `flag show` says it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")]


@commands.command()
def show() -> None:
    """Show what is in force, its generation, and how many answers each backend is streaming."""
    standing = _asked(lambda found: found.standing())
    if standing.generation == 0:
        console.print(
            f"Generation 0, no document is set: new messages go to {load_settings().default_backend} (the default)."
        )
    elif standing.rules is None:
        console.print(f"Generation {standing.generation} was not made by these commands:")
    else:
        console.print(f"Generation {standing.generation}: new messages go to {said(standing.rules)}.", markup=False)
    console.print(_live(standing))
    newest = _recorded(lambda records: records.newest(0))
    if newest is not None and newest[1] is not None:
        console.print_json(newest[1], ensure_ascii=plain(newest[1]) != newest[1])


@commands.command(name="set")
def set_backend(
    backend: Annotated[str, typer.Argument(help=f"One of: {', '.join(NAMES)}.")],
    reason: Reason = "",
    by: By = None,
    expected: Expected = None,
    dry_run: DryRun = False,
) -> None:
    """Send every new message to BACKEND, save those of users with a target."""
    _check(backend)
    _change(flags.to(backend), by, reason, expected, dry_run=dry_run)


@commands.command()
def split(
    shares: Annotated[
        str, typer.Argument(help="Percents, as in pubsub=10 or pubsub=10,notify=5; the default gets the rest.")
    ],
    reason: Reason = "",
    by: By = None,
    expected: Expected = None,
    dry_run: DryRun = False,
) -> None:
    """Send a share of the conversations to other backends than the default; each conversation stays where it is."""
    _change(flags.split(_shares(shares)), by, reason, expected, dry_run=dry_run)


@commands.command()
def target(
    user: Annotated[str, typer.Argument(help="As X-Streamgauge-User names them.")],
    backend: Annotated[str, typer.Argument(help="Where their messages go; none: as the split says.")],
    reason: Reason = "",
    by: By = None,
    expected: Expected = None,
    dry_run: DryRun = False,
) -> None:
    """Send one user's new messages to BACKEND."""
    if backend != "none":
        _check(backend)
    _change(flags.target(user, None if backend == "none" else backend), by, reason, expected, dry_run=dry_run)


@commands.command()
def history() -> None:
    """Show who changed the flag, when and why; exit code 1 if an entry was tampered with."""
    entries = _recorded(lambda records: records.history())
    table = Table("generation", "when (UTC)", "who", "why", "what")
    for entry in reversed(entries):
        what = flags.described(entry.document)
        when = entry.created_at.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(
            str(entry.generation),
            when,
            *(escape(plain(text or "–")) for text in (entry.changed_by, entry.reason, what)),
        )
    console.print(table)
    broken = broken_at(entries)
    if broken is not None:
        console.print(f"Generation {broken} does not follow from the one before: it, or what came before, was changed.")
        raise typer.Exit(BROKEN)
    console.print("Each entry follows from the one before.")


@rollback_command.command()
def rollback(
    drain: Annotated[bool, typer.Option("--drain", help=f"Wait until only {SAFE} streams.")] = False,
    force: Annotated[bool, typer.Option("--force", help=f"Hand live streams over to {SAFE} as well.")] = False,
    within: Annotated[float, typer.Option(min=0, help="Seconds to wait for that at most.")] = 900.0,
    reason: Reason = "",
    by: By = None,
    expected: Expected = None,
    dry_run: DryRun = False,
) -> None:
    """Send everything new to the safe backend, now, whatever is in force.

    Exit code 3 if --drain, or --force, was not through in time; the flag is back all the same.
    """
    _change(flags.back_to_safety(must_leave=force), by, reason, expected, dry_run=dry_run)
    if dry_run or not (drain or force):
        return
    if not _drained(within, to_leave=force):
        raise typer.Exit(NOT_DRAINED)


def _drained(within_s: float, *, to_leave: bool) -> bool:
    """Wait until no other backend than the safe one has a live stream; of a forced one those in rows may stay."""
    stays = set(IN_ROWS) if to_leave else {SAFE}
    ends_at = time.monotonic() + within_s
    with console.status("") as status:
        while True:
            live = {
                name: count for name, count in _asked(lambda found: found.standing()).live.items() if name not in stays
            }
            if not live:
                console.print(f"Nothing streams elsewhere than in {', '.join(sorted(stays))} any more.")
                return True
            waiting = ", ".join(f"{count} in {name}" for name, count in sorted(live.items()))
            if time.monotonic() > ends_at:
                console.print(
                    f"Still streaming after {within_s:g} s: {waiting}. New messages go to {SAFE} all the same."
                )
                return False
            status.update(f"Still streaming: {waiting}")
            time.sleep(LOOK_AGAIN_S)


def _change(edit: Edit, by: str | None, reason: str, expected: int | None, *, dry_run: bool) -> None:
    who = _user() if by is None else by

    async def make(found: Flags) -> Change:
        check_said(who, reason)
        if dry_run:
            return await found.plan(edit, expected=expected)
        change = await found.change(edit, by=who, reason=reason, expected=expected)
        if change.is_one:
            await annotate(load_settings(), f"flag: {change}, by {who}: {reason or 'no reason given'}")
        return change

    change = _asked(make)
    if not change.is_one:
        console.print(f"Nothing was changed: generation {change.before.generation} says that already.")
        return
    console.print(f"{change}.", markup=False)
    console.print(_live(change.before))
    if change.after.must_leave:
        console.print(f"They are handed over to {SAFE}, those in {', '.join(IN_ROWS)} stay; no text is lost.")
    elif change.before.live:
        console.print("None of them moves.")
    if change.generation is None:
        console.print("Nothing was changed (--dry-run).")
    else:
        console.print(f"Generation {change.generation} is in force.{_undo(change)}", markup=False, soft_wrap=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def _undo(change: Change) -> str:
    """Say which commands bring back what was in force, if any do."""
    before = change.before.rules
    if before is None:
        return " No command brings back a document of somebody's; /ops/flag/history has it."
    commands = [*_undo_split(before, change.after), *_undo_targets(before.users, change.after.users)]
    return f" Undo: {' && '.join(commands)}" if commands else ""


def _undo_split(before: Rules, after: Rules) -> list[str]:
    if replace(before, users=after.users) == after:
        return []
    if not before.is_on:
        # Never --force: who takes a command back does not mean to move live streams.
        return ["streamgauge rollback"] if after.is_on or not before.must_leave else []
    shares = ",".join(f"{name}={share:g}" for name, share in before.shares.items())
    split_again = [f"streamgauge flag split {shares}"] if shares else []
    if split_again and before.default == after.default:
        return split_again
    return [f"streamgauge flag set {before.default}", *split_again]


def _undo_targets(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    changed = [user for user in sorted({*before, *after}) if before.get(user) != after.get(user)]
    return [f"streamgauge flag target {shlex.quote(user)} {before.get(user, 'none')}" for user in changed]


def _live(standing: Standing) -> str:
    if not standing.live:
        return "No stream is live."
    return "Live streams: " + ", ".join(f"{count} in {name}" for name, count in sorted(standing.live.items())) + "."


def _shares(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        named = [(name.strip(), float(share)) for name, share in pairs]
    except ValueError:
        raise UsageError(f"{text!r} is no split: give percents as in pubsub=10 or pubsub=10,notify=5.") from None
    shares = dict(named)
    if len(shares) < len(named):
        raise UsageError(f"{text!r} names a backend twice: give each one share.")
    for name in shares:
        _check(name)
    return shares


def _check(backend: str) -> None:
    if backend not in NAMES:
        raise UsageError(f"There is no backend {backend!r}: use one of {', '.join(NAMES)}.")
    if reason := withheld(load_settings()).get(backend):
        raise UsageError(f"{backend} {reason}: use pubsub.")


def _asked(ask: Callable[[Flags], Awaitable[T]]) -> T:
    return _recorded(lambda records: ask(Flags(records, load_settings())))


def _recorded(ask: Callable[[FlagRecords], Awaitable[T]]) -> T:
    try:
        return recorded(load_settings().database_url, ask)
    except FlagMovedError as error:
        raise StackError(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
