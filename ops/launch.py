"""Turn into another program that dies with the process that started it, as another user where asked.

Run by path with `python -I -S`, so that it imports nothing of ours and works before any privilege is dropped:
`launch.py PARENT_PID UID GID DEATH_SIGNAL PROGRAM ARGUMENT…`, with -1 for "the user we are". It is a program of its own
rather than a `preexec_fn`, which may deadlock in a process with threads; and the kernel forgets the death signal when
a process changes its user, so it must be asked for afterwards.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the program, or end with 127 and the reason on standard error."""
    parent, uid, gid, death_signal = map(int, sys.argv[1:5])
    program = sys.argv[5:]
    try:
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        _die_with(parent, death_signal)
        os.execv(program[0], program)  # noqa: S606 - a fixed program with a list of arguments
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]}: {error}\n")
        sys.exit(127)


def _die_with(parent: int, death_signal: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(127)


if __name__ == "__main__":
    main()
