"""The atomic steps: Lua that a server runs by its hash, and calls of it that are packed beforehand."""

from collections.abc import Callable
from functools import cached_property
from hashlib import sha1
from pathlib import Path
from typing import Any

import hiredis

Heard = Callable[[Any], None]
"""Gets a command's reply, a `hiredis.ReplyError` or a `StoreUnavailableError`: once, after the call returned."""


class Script:
    """Lua that is called by its hash."""

    def __init__(self, body: bytes) -> None:
        self.body, self.sha = body, sha1(body, usedforsecurity=False).hexdigest()

    @classmethod
    def load(cls, name: str) -> "Script":
        """Read a file of this package."""
        return cls((Path(__file__).parent / "lua" / f"{name}.lua").read_bytes())

    @cached_property
    def sharded(self) -> "Script":
        """The same for a cluster, where a message goes to the node that owns the channel's slot and to no other."""
        return self.with_command("PUBLISH", "SPUBLISH")

    def with_command(self, old: str, new: str) -> "Script":
        """The same with one command in the place of another."""
        return Script(self.body.replace(f"'{old}'".encode(), f"'{new}'".encode()))


class Prepared:
    """A script's call of which everything is packed already but its last two arguments, an index and a record."""

    def __init__(
        self, begin: Callable[[bytes, Heard], None], script: Script, keys: tuple[str, ...], *args: Any
    ) -> None:
        words = ("EVALSHA", script.sha, len(keys), *keys, *args)
        self._begin = begin
        self._head = b"*%d\r\n" % (len(words) + 2) + hiredis.pack_command(words).partition(b"\r\n")[2]

    def __call__(self, index: int, record: bytes, heard: Heard) -> None:
        """Begin the call; `heard` gets what comes of it."""
        number = b"%d" % index
        self._begin(b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (self._head, len(number), number, len(record), record), heard)
