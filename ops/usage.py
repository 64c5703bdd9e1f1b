"""What a command refuses before it begins: exit code 2, as for an option that does not exist."""

import os
from pathlib import Path

from ops.processes import StackError

USAGE = 2


class UsageError(StackError):
    """What was asked for can't be done here; the message says what to ask for instead."""


def check_writable(file: Path) -> None:
    """Raise `UsageError` if this file could not be written, before the work whose result it is to hold."""
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UsageError(f"{file} can't be written: make the folder {file.parent}, or name another file.")
