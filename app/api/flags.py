"""The flag over HTTP, for the page and for operators: `/ops`, with an operator's token."""

from collections.abc import Mapping
from typing import Any, Self

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app import flags
from app.api.access import check_token
from app.api.dependencies import Open
from app.api.problems import responses
from app.flag_records import FlagMovedError, broken_at
from app.flag_words import MOST_BY, MOST_REASON, MOST_USER, check_said
from app.flags import Edit
from app.rollout_record import RolloutHeard
from app.streaming.backends import SAFE
from app.telemetry.annotations import annotate


async def _operator(services: Open, request: Request) -> None:
    token = services.settings.operator_token
    if not token:
        raise HTTPException(404, "There are no operators here: set STREAMGAUGE_OPERATOR_TOKEN to have /ops.")
    check_token(request, token, "the operator's token")


router = APIRouter(prefix="/ops", tags=["operators"], dependencies=[Depends(_operator)])
MOVED = responses({409: "Somebody else changed the flag: look, then say it again"})


class RulesOut(BaseModel):
    """Where new messages go, in percent of the conversations; to the safe backend if the flag is not on."""

    model_config = ConfigDict(from_attributes=True)
    default: str
    split: dict[str, float]
    users: dict[str, str]
    is_on: bool
    must_leave: bool


class FlagOut(BaseModel):
    """What is in force, and how many answers each backend is streaming. `rules`: null for a document of somebody's."""

    generation: int
    rules: RulesOut | None
    live: Mapping[str, int]
    backends: tuple[str, ...]
    safe: str = SAFE
    follows: int | None
    """The generation by which this process chooses; null with a provider of somebody's."""
    rollout: RolloutHeard | None
    """What the controller of the last guarded rollout told last, if there was one."""


class Said(BaseModel):
    """Who changes the flag and why; kept in its history. `expected` is the generation that is to be changed."""

    model_config = ConfigDict(extra="forbid", strict=True)
    by: str = Field(min_length=1, max_length=MOST_BY)
    reason: str = Field("", max_length=MOST_REASON)
    expected: int | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        check_said(self.by, self.reason)
        return self


class FlagIn(Said):
    """One change: everything to `default`, shares of it in percent, or one user's backend (none: as the split says)."""

    default: str | None = None
    shares: dict[str, float] | None = None
    user: str | None = Field(None, max_length=MOST_USER)
    backend: str | None = None

    @model_validator(mode="after")
    def _one_change(self) -> Self:
        if (self.default is not None) + (self.shares is not None) + (self.user is not None) != 1:
            raise ValueError("give one of: default, shares, user")
        if ("backend" in self.model_fields_set) != (self.user is not None):
            raise ValueError('give backend with user and only then: a name, or "none" to leave the user to the split')
        return self

    @property
    def edit(self) -> Edit:
        """The change."""
        if self.default is not None:
            return flags.to(self.default)
        if self.shares is not None:
            return flags.split(self.shares)
        assert self.user is not None
        return flags.target(self.user, None if self.backend == "none" else self.backend)


class RollbackIn(Said):
    """Everything new to the safe backend, now; `force` hands live streams over to it as well."""

    force: bool = False


class Changed(BaseModel):
    """What a change did, or would do: then its generation is null. No live stream moves unless the rules say so.

    One that asks for what is in force already makes no generation, and gives that one's.
    """

    generation: int | None
    said: str
    before: RulesOut | None
    after: RulesOut
    live: Mapping[str, int]


class HistoryOut(BaseModel):
    """Every generation, newest first, and the first whose hash does not follow from the one before."""

    broken_at: int | None
    generations: list[dict[str, Any]]


@router.get("/flag")
async def read_flag(services: Open) -> FlagOut:
    """Give what is in force."""
    standing = await services.flags.standing()
    return FlagOut(
        generation=standing.generation,
        rules=None if standing.rules is None else RulesOut.model_validate(standing.rules),
        live=standing.live,
        backends=services.flag.backends,
        follows=services.flag.generation,
        rollout=await services.rollout_record.heard(),
    )


@router.put("/flag", responses=MOVED)
async def change_flag(services: Open, body: FlagIn) -> Changed:
    """Make one change; it is in force for the next message."""
    return await _change(services, body, body.edit)


@router.post("/rollback", responses=MOVED)
async def roll_back(services: Open, body: RollbackIn) -> Changed:
    """Go back to the safe backend."""
    return await _change(services, body, flags.back_to_safety(must_leave=body.force))


@router.get("/flag/history")
async def read_history(services: Open) -> HistoryOut:
    """Give who changed the flag, when and why."""
    history = await services.flag_records.history()
    entries = [
        {
            "generation": entry.generation,
            "created_at": entry.created_at,
            "by": entry.changed_by,
            "reason": entry.reason,
            "what": flags.described(entry.document),
            "document": entry.document,
            "hash": entry.hash,
        }
        for entry in reversed(history)
    ]
    return HistoryOut(broken_at=broken_at(history), generations=entries)


async def _change(services: Open, said: Said, edit: Edit) -> Changed:
    try:
        if said.dry_run:
            change = await services.flags.plan(edit, expected=said.expected)
        else:
            change = await services.flags.change(edit, by=said.by, reason=said.reason, expected=said.expected)
            if change.is_one:
                await annotate(services.settings, f"flag: {change}, by {said.by}: {said.reason or 'no reason given'}")
    except FlagMovedError as error:
        raise HTTPException(409, str(error)) from None
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    return Changed(
        generation=change.generation,
        said=str(change),
        before=None if change.before.rules is None else RulesOut.model_validate(change.before.rules),
        after=RulesOut.model_validate(change.after),
        live=change.before.live,
    )
