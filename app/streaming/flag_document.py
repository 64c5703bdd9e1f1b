"""The flag's document: flagd's JSON (https://flagd.dev/reference/flag-definitions/), made from rules and read back.

`fractional` hashes the conversation's id, so a conversation stays where it is. The shares stand in one order whatever
they are, so the conversations of a 10 % share of two backends are among those of a 30 % share.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FLAG = "stream-backend"
FORCED = "forced_backend"
"""Attribute that a caller's X-Streamgauge-Backend header sets; the document's targeting honours it."""
USER = "user"
"""Attribute that the X-Streamgauge-User header sets."""
LEAVE = "leave"
"""Metadata of the flag: live streams are to leave their chunk store as well."""
WHOLE = 10_000
"""The weights of a split are hundredths of a percent."""


class ForeignDocumentError(ValueError):
    """A document that was not made from rules; the message says what to do about it."""

    def __init__(self) -> None:
        super().__init__(
            "The document in force was not made by these commands, so they can't change a part of it; "
            "`streamgauge flag set BACKEND` replaces it whole."
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """Where new messages go: `shares` are percents of the conversations, of everybody but the default."""

    default: str
    shares: Mapping[str, float] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    is_on: bool = True
    """Off is the kill switch: every new message goes to the safe backend, whatever the rest says."""
    must_leave: bool = False
    """Live streams are to be handed to the safe backend, too."""

    def share_of(self, backend: str) -> float:
        """Give a backend's part of the conversations that nothing else decides, in percent."""
        if backend == self.default:
            return 100.0 - sum(self.shares.values())
        return self.shares.get(backend, 0.0)

    @property
    def split(self) -> dict[str, float]:
        """Every backend that gets a share, with it."""
        return {self.default: self.share_of(self.default), **self.shares}


def document_of(rules: Rules, backends: Sequence[str]) -> dict[str, Any]:
    """Write the document; a message may force one of `backends`. Raises `ValueError` for shares that can't be."""
    _check(rules, backends)
    branches: list[Any] = [{"in": [{"var": FORCED}, list(backends)]}, {"var": FORCED}]
    for backend in backends:
        users = sorted(user for user, given in rules.users.items() if given == backend)
        if users:
            branches += [{"in": [{"var": USER}, users]}, backend]
    return {
        "flags": {
            FLAG: {
                "state": "ENABLED" if rules.is_on else "DISABLED",
                "variants": {name: name for name in backends},
                "defaultVariant": rules.default,
                "targeting": {"if": [*branches, _rest(rules, backends)]},
                "metadata": {LEAVE: rules.must_leave},
            }
        }
    }


def document_for(default: str, backends: Sequence[str]) -> dict[str, Any]:
    """Write the document that sends every message to `default`, save those that force a backend."""
    return document_of(Rules(default), backends)


def rules_of(document: Mapping[str, Any]) -> Rules:
    """Read the rules back. Raises `ForeignDocumentError`."""
    try:
        flag = document["flags"][FLAG]
        default = flag["defaultVariant"]
        *branches, rest = flag["targeting"]["if"]
        users = {
            user: backend
            for condition, backend in zip(branches[2::2], branches[3::2], strict=True)
            for user in condition["in"][1]
        }
        weights = dict(rest["fractional"]) if isinstance(rest, dict) else {rest: WHOLE}
        shares = {name: weight * 100 / WHOLE for name, weight in weights.items() if name != default and weight}
        rules = Rules(default, shares, users, flag["state"] == "ENABLED", bool(flag.get("metadata", {}).get(LEAVE)))
        is_ours = json.loads(json.dumps(document_of(rules, branches[0]["in"][1]))) == {"flags": document["flags"]}
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ForeignDocumentError from error
    if not is_ours:
        raise ForeignDocumentError
    return rules


def _check(rules: Rules, backends: Sequence[str]) -> None:
    named = {rules.default, *rules.shares, *rules.users.values()}
    if strangers := sorted(named - set(backends)):
        raise ValueError(f"There is no backend {', '.join(strangers)} here: use {', '.join(backends)}.")
    for name, share in rules.shares.items():
        if not (0 <= share <= 100 and share == round(share, 2)):
            raise ValueError(f"{name} can't get {share:g} %: shares are percents from 0 to 100, in steps of 0.01.")
    together = sum(round(share * WHOLE / 100) for share in rules.shares.values())
    if together > WHOLE:
        raise ValueError(f"These shares make {together * 100 / WHOLE:g} %: give at most 100 together.")
    if rules.default in rules.shares:
        raise ValueError(f"{rules.default} is the default and gets what the others leave: {_meant(rules, backends)}.")


def _meant(rules: Rules, backends: Sequence[str]) -> str:
    """Say how the shares are to be had that somebody gave to the default, too."""
    rest = next((name for name in backends if name not in rules.shares), None)
    if rest is None:
        return "leave it out"
    shares = ",".join(f"{name}={share:g}" for name, share in rules.shares.items())
    return f"first make {rest} the default, then {shares} gives these shares, and {rest} the rest"


def _rest(rules: Rules, backends: Sequence[str]) -> Any:
    """Give what decides about a conversation that no rule names."""
    weights = {name: round(rules.share_of(name) * WHOLE / 100) for name in backends if rules.share_of(name) > 0}
    if len(weights) == 1:
        return next(iter(weights))
    return {"fractional": [[name, weight] for name, weight in weights.items()]}
