"""What is wrong with a JSON document that does not fit its type, in a reader's words: pure."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "null",
    "object": "an object",
    "array": "a list",
}
PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")
STEP = re.compile(r"\[(?P<index>\d+)\]|(?P<unnamed>\[\.\.\.\])|\.?(?P<field>[^.\[]+)")
WRONG = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `[^`]*`")
MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
MOST_SHOWN = 40

_Steps = list[str | int]


def misfit(document: Any, kind: type) -> str | None:
    """The first field that is missing, or is what it can't be, with the way to it; None if the document fits."""
    complaint = _complaint(document, kind)
    if complaint is None:
        return None
    message = PLACE.sub("", complaint)
    steps = _steps(document, kind, complaint)
    where = ".".join(map(str, steps)) or "the document"
    if missing := MISSING.fullmatch(message):
        return f"{where} has no {missing['field']}"
    wrong, found = WRONG.fullmatch(message), _shown(_at(document, steps))
    return f"{where} is {found} where {_kinds(wrong['wanted'])} belongs" if wrong else f"{where} can't be {found}"


def _complaint(document: Any, kind: type) -> str | None:
    try:
        msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def _steps(document: Any, kind: type, complaint: str) -> _Steps:
    """The way to the fault, with the keys that the complaint leaves out: each is the one that alone brings it up."""
    steps: _Steps = []
    place = PLACE.search(complaint)
    for step in STEP.finditer(place["path"] if place else ""):
        if step["unnamed"]:
            each = ((key, _with(document, steps, {key: value})) for key, value in _at(document, steps).items())
            key, document = next(one for one in each if _complaint(one[1], kind) == complaint)
            steps.append(key)
        else:
            steps.append(step["field"] or int(step["index"]))
    return steps


def _at(document: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        document = document[step]
    return document


def _with(document: Any, steps: Sequence[str | int], value: Any) -> Any:
    """A copy with another value at that place."""
    if not steps:
        return value
    copied = document.copy()
    copied[steps[0]] = _with(document[steps[0]], steps[1:], value)
    return copied


def _kinds(names: str) -> str:
    return " or ".join(KINDS.get(name, name) for name in names.split(" | "))


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return KINDS["object" if isinstance(value, dict) else "array"]
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
