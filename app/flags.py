"""Changing the flag: what a change would do, who makes it and why, and how many live streams it touches."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.flag_records import FlagMovedError, FlagRecords
from app.flag_words import check_user, plain
from app.settings import Settings
from app.streaming.backends import SAFE, offered
from app.streaming.flag_document import ForeignDocumentError, Rules, document_of, rules_of


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to be in force in the place of what is. One that `replaces` it asks nothing of it: it may be broken."""

    apply: Callable[[Rules], Rules]
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What is in force: without a document (generation 0) the default's. `live` counts streams by backend.

    `rules` is None for a document that was not made from any.
    """

    generation: int
    rules: Rules | None
    live: Mapping[str, int]
    document: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What was in force, what is now, and by which generation; None for a change that was only planned.

    It `is_one` unless what was asked for was in force already.
    """

    before: Standing
    after: Rules
    generation: int | None
    is_one: bool = True

    def __str__(self) -> str:
        """Say it in one line."""
        before = "a document of somebody's" if self.before.rules is None else said(self.before.rules)
        return f"{before} → {said(self.after)}"


class Flags:
    """The flag, as people and rollouts change it."""

    def __init__(self, records: FlagRecords, settings: Settings) -> None:
        self._records, self._default, self._backends = records, settings.default_backend, offered(settings)

    async def standing(self) -> Standing:
        """Look."""
        generation, text = await self._records.newest(0) or (0, None)
        rules: Rules | None = Rules(self._default)
        document = None
        if text:
            try:
                document = json.loads(text)
                rules = rules_of(document)
            except (ForeignDocumentError, RecursionError):  # the latter of one that is nested too deeply to be read
                rules = None
        return Standing(generation, rules, await self._records.live(), document)

    async def plan(self, edit: Edit, *, expected: int | None = None) -> Change:
        """Say what a change would do.

        Raises `ValueError` for one that can't be, as `ForeignDocumentError`; `FlagMovedError` for one of a flag that
        is not at the generation that was expected.
        """
        before = await self.standing()
        if expected not in {None, before.generation}:
            raise FlagMovedError(before.generation)
        if before.rules is None and not edit.replaces:
            raise ForeignDocumentError
        after = edit.apply(before.rules or Rules(self._default))
        wanted = document_of(after, self._backends)
        if before.generation == 0:  # what holds without a document is not kept: one that says the same is something
            return Change(before, after, None, is_one=edit.replaces or after != before.rules)
        return Change(before, after, None, is_one=wanted != before.document)

    async def change(self, edit: Edit, *, by: str, reason: str, expected: int | None = None) -> Change:
        """Make a change, unless the flag moved since `expected`, or since it was looked at.

        One that replaces the document asks only for `expected`, and one that asks for what is in force does nothing.
        Raises `ValueError` for a change that can't be, `FlagMovedError` when somebody else came first.
        """
        planned = await self.plan(edit, expected=expected)
        if not planned.is_one:
            return replace(planned, generation=planned.before.generation)
        if expected is None and not edit.replaces:
            expected = planned.before.generation
        document = document_of(planned.after, self._backends)
        return replace(planned, generation=await self._records.add(document, by=by, reason=reason, expected=expected))


def to(backend: str) -> Edit:
    """Send every new message there; users keep their targets."""
    return Edit(lambda rules: Rules(backend, users=rules.users), replaces=True)


def split(shares: Mapping[str, float]) -> Edit:
    """Give other backends than the default these percents of the conversations."""
    return Edit(lambda rules: replace(rules, shares=dict(shares), is_on=True, must_leave=False))


def target(user: str, backend: str | None) -> Edit:
    """Send a user's new messages there; None leaves them to the split again, whatever they are called."""

    def apply(rules: Rules) -> Rules:
        if backend is not None:
            check_user(user)
        users = {name: given for name, given in rules.users.items() if name != user}
        return replace(rules, users=users if backend is None else {**users, user: backend})

    return Edit(apply)


def back_to_safety(*, must_leave: bool = False) -> Edit:
    """Send everything new to the safe backend, whoever asks for what; `must_leave` moves live streams as well."""
    return Edit(lambda rules: Rules(SAFE, users=rules.users, is_on=False, must_leave=must_leave), replaces=True)


def described(document: Mapping[str, Any]) -> str:
    """Say a document in a few words."""
    try:
        return said(rules_of(document))
    except ForeignDocumentError:
        return "a document of somebody's"


def said(rules: Rules) -> str:
    """Say rules in a few words."""
    if not rules.is_on:
        return f"{SAFE} alone" + (", live streams as well" if rules.must_leave else "")
    parts = [f"{name} {share:g} %" for name, share in rules.split.items() if share]
    parts += [f"{plain(user)}: {backend}" for user, backend in sorted(rules.users.items())]
    return ", ".join(parts)
