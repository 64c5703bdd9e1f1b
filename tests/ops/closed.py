"""JSON schemas that know every field there may be, and the misspellings that they have to find."""

import copy
from collections.abc import Iterator
from typing import Any

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
FLAG = {"type": "boolean"}
OPEN = {"type": "object"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h|d))+$"}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}
Schema = dict[str, Any]
FREE = {"labels", "annotations", "matchLabels", "behavior", "pairs"}
"""Fields below which any name will do, or somebody else judges."""


def closed(required: str = "", /, **fields: Schema) -> Schema:
    """An object of these fields and no others."""
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


def some(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def misspelt(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the document once for each of its fields, with a letter too many in that one's name."""
    for way in _ways(document):
        spoilt = node = copy.deepcopy(document)
        for step in way[:-1]:
            node = node[step]
        node[f"{way[-1]}z"] = node.pop(way[-1])
        yield spoilt


def _ways(node: Any, *so_far: Any) -> list[tuple[Any, ...]]:
    """The way to every field below this node; of a list's items the first alone."""
    if isinstance(node, list):
        return _ways(node[0], *so_far, 0)
    if not isinstance(node, dict) or FREE & set(so_far):
        return []
    return [way for key, value in node.items() for way in [(*so_far, key), *_ways(value, *so_far, key)]]
