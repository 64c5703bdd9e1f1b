"""What a command refuses before it begins: exit code 2, as for an option that does not exist."""

from ops.processes import StackError

USAGE = 2


class UsageError(StackError):
    """What was asked for can't be done here; the message says what to ask for instead."""
